// The process between the spawner and a program; see spawner.h.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <optional>

#include "worker/runtime/cgroup_place.h"

namespace sluice {

// To a keeper: end what runs, and yourself. It comes by itself when the spawner dies.
constexpr int kLeaveSignal = SIGUSR1;

// What a spawner has blocked, so that its keepers lose none.
[[nodiscard]] sigset_t kept_signals();

// Runs one program after the other, as it is asked over `orders_fd`, until the node closes that, or
// kLeaveSignal comes. Reports over `reports_fd`. Programs whose memory or number of processes is
// limited are in a cgroup of the keeper's in `groups`, if there are any. In a process that
// `spawner` has just forked.
[[noreturn]] void run_keeper(std::uint64_t id,
                             int orders_fd,
                             int reports_fd,
                             pid_t spawner,
                             const std::optional<CgroupPlace>& groups);

}  // namespace sluice
