// What the worker's core wishes after a turn. The shell carries it out in this order: stops,
// starts, answers, sends (each in its own order), facts, exit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/core/attempt.h"

namespace sluice {

// Facts are for logs and counters; nothing depends on them.
struct AttemptStarted {
  AttemptKey key;
  std::string task;
};

struct AttemptStopping {
  AttemptKey key;
  StopReason reason = StopReason::cancel;
};

struct AttemptEnded {
  AttemptKey key;
  Outcome outcome = Outcome::completed;
  std::string error_code;
  std::string error;
};

struct ResultRecorded {
  AttemptKey key;
  bool is_stale = false;
};

struct AttemptDropped {
  AttemptKey key;
};

// The first welcome of a connection or of an epoch.
struct BrokerWelcomed {
  std::uint64_t epoch = 0;
};

struct BrokerLost {
  std::size_t running_count = 0;
  std::size_t unacknowledged_count = 0;
};

struct BrokerRefused {
  Error error;
};

// A message with a number not higher than the last one's: a repeat or a broker of the past.
struct OldMessageIgnored {
  Seen number;
};

struct DrainBegun {
  std::string why;  // "signal", "operator", or what broke
  std::size_t running_count = 0;
};

struct ConcurrencyChanged {
  std::uint32_t concurrency = 1;
};

// The last fact of a life.
struct NodeLeaving {
  std::size_t unacknowledged_count = 0;  // results the broker has not confirmed
};

using WorkerFact = std::variant<AttemptStarted,
                                AttemptStopping,
                                AttemptEnded,
                                ResultRecorded,
                                AttemptDropped,
                                BrokerWelcomed,
                                BrokerLost,
                                BrokerRefused,
                                OldMessageIgnored,
                                DrainBegun,
                                ConcurrencyChanged,
                                NodeLeaving>;

enum class ExitWish : std::uint8_t {
  none,
  drained,  // every result is acknowledged, or nobody is there to do it
  at_once,  // end the runtimes and all their processes FIRST, then do `sends`, then exit
};

struct WorkerOutput {
  std::vector<AttemptStop> stops;
  std::vector<Assignment> starts;
  std::vector<CheckpointAnswer> answers;
  std::vector<WorkerMessage> sends;
  std::vector<WorkerFact> facts;
  ExitWish exit = ExitWish::none;
  std::size_t unacknowledged_count = 0;  // with an exit: results that nobody confirmed

  void clear() { *this = WorkerOutput{}; }
};

}  // namespace sluice
