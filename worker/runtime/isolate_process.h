// The inside of an isolate: a process that runs one job after another until its node closes the
// socket. See isolate_wire.h for what is said.
//
// The handler runs on the process' only thread that does anything; a second one sleeps until a
// note comes, such as a stop. After each job everything that it started and left behind is killed,
// then the result goes.
#pragma once

#include <cstdint>
#include <string>

#include "worker/runtime/handler_call.h"

namespace sluice {

// Returns when the node has closed the socket or is gone. `node` is the node's id, the marker for
// child processes (SLUICE_NODE). `cpu_s` is the CPU time that each job may use, 0 = as much as it
// wants.
void run_isolate(int jobs_fd,
                 int notes_fd,
                 const TaskHandler& handler,
                 const std::string& node,
                 std::uint64_t cpu_s);

}  // namespace sluice
