// Results that every runtime of processes gives alike.
#pragma once

#include <optional>
#include <string>

#include "common/protocol/messages.h"
#include "worker/core/attempt.h"
#include "worker/runtime/spawner.h"

namespace sluice {

[[nodiscard]] AttemptResult failed_attempt(const RunJob& job,
                                           std::string code,
                                           std::string text,
                                           bool can_retry);

// No process, for this errno. Handed back when the node is short of something: its jobs are not to
// blame.
[[nodiscard]] AttemptResult cannot_start(const RunJob& job, int error);

// What a stop for this reason makes of an attempt; `tail` is what it said last, or empty.
[[nodiscard]] AttemptResult stopped_attempt(const RunJob& job,
                                            StopReason reason,
                                            const std::string& tail = {});

// Of the whole life of what has ended, with all that it left behind.
[[nodiscard]] Usage usage_of(const SpawnReport& report);

// "killed by SIGSEGV", "exited with code 1", or why it never ran: for people.
[[nodiscard]] std::string how_it_ended(const SpawnReport& report);

[[nodiscard]] std::string signal_name(int signal);  // SIGSEGV

// `text`, and what the process said last on lines of its own.
[[nodiscard]] std::string with_tail(std::string text, const std::string& tail);

}  // namespace sluice
