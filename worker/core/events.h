// What can happen to a worker. A BrokerMessage stands for itself; its numbering is checked inside.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/core/attempt.h"

namespace sluice {

// A connection to the broker stands, for the first time or again. What was sent before may be lost.
struct ConnectionUp {};

struct ConnectionDown {};

// The node offers these tasks from now on: its task table was read again.
struct TasksChanged {
  std::vector<std::string> tasks;
};

// The first SIGTERM: finish what runs within the grace, hand back the rest, leave.
struct StopRequested {};

// The second SIGTERM: leave in this turn.
struct LeaveRequested {};

// A runtime can run nothing any more (its spawner died): hand everything back now, then leave.
struct RuntimeBroken {
  std::string detail;
};

using WorkerEvent = std::variant<BrokerMessage,
                                 ConnectionUp,
                                 ConnectionDown,
                                 AttemptDone,
                                 AttemptProgress,
                                 AttemptLog,
                                 TasksChanged,
                                 StopRequested,
                                 LeaveRequested,
                                 RuntimeBroken>;

}  // namespace sluice
