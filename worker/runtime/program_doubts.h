// What of a program's settings does not work on this machine as it is now. The node starts all the
// same: a program may be installed while it runs.
#pragma once

#include <string>

#include "worker/runtime/task_settings.h"

namespace sluice {

// Says it as doubts about the keys `program` and `cwd`. `program` is found as it will be for a job:
// with a '/' from `cwd` on (empty = the node's), else in the node's PATH; one that holds a
// placeholder is known only with a job.
void doubt_program(TaskSettings& settings, const std::string& program, const std::string& cwd);

}  // namespace sluice
