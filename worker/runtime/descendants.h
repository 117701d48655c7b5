// Processes below this one, for a child subreaper: it inherits the children of whatever ends below
// it, so its own children are all there is to look at.
#pragma once

#include <sys/types.h>

#include <vector>

#include "worker/runtime/process_meter.h"

namespace sluice {

// Of every thread of this process.
[[nodiscard]] std::vector<pid_t> children_of_self();

// Kills what is below us until nothing is, and waits for each. What they have used.
Spent end_descendants();

}  // namespace sluice
