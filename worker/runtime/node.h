// A worker node as a process: one thread that owns the core, the connection and the runtimes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/exit_codes.h"
#include "common/limits.h"
#include "common/protocol/messages.h"
#include "common/result.h"
#include "worker/runtime/task_table.h"

namespace sluice {

struct NodeOptions {
  std::string broker = "tcp://127.0.0.1:7712";
  std::string name;               // empty = the host's name
  std::uint32_t concurrency = 0;  // 0 = the CPUs that this process may use
  std::vector<std::string> queues;
  std::vector<Header> labels;
  std::int64_t drain_grace_ms = kDrainGraceDefaultMs;
  std::string state_dir;  // empty = none: then nothing is known of the life before
};

// How a node's life ended: the exit code of its process.
enum NodeExit : int {
  node_drained = kExitOk,           // every result was acknowledged
  node_failed = kExitFailed,        // it could not begin: one line on stderr says why
  node_misconfigured = kExitUsage,  // flags or configuration
  node_broken = kExitInternal,      // a runtime could not go on; what was held is handed back
  node_unacknowledged = kExitUnacknowledged,  // nobody acknowledged the last results
};

// Fills in what was left open.
[[nodiscard]] NodeOptions with_defaults(NodeOptions options);

// Reads the task table once more; `before` is the one in force.
using ReadTasks = std::function<Result<std::unique_ptr<TaskTable>>(const TaskTable& before)>;

// Runs until the node has left: a first SIGTERM or SIGINT drains, a second leaves at once. SIGHUP
// has the task table read again: what begins from then on is run as it says; one with a mistake is
// refused in the log, and the old one stays in force. But when it comes for the terminal of the
// node is gone, it drains. Blocks these signals in the calling thread and leaves them blocked.
// Throws std::exception when it cannot begin. Does not return but ends the process (with the same
// code) when a handler cannot be stopped.
[[nodiscard]] NodeExit run_node(NodeOptions options,
                                std::unique_ptr<TaskTable> tasks,
                                ReadTasks read_again);

}  // namespace sluice
