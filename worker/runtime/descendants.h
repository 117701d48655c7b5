// Processes below this one, for a child subreaper: it inherits the children of whatever ends below
// it, so in the end they are all its own children.
#pragma once

#include <sys/types.h>

#include <vector>

#include "worker/runtime/process_meter.h"

namespace sluice {

// Of every thread of this process.
[[nodiscard]] std::vector<pid_t> children_of_self();

// 0 when there is no such process.
[[nodiscard]] pid_t parent_of(pid_t pid);

// Kills a child of ours and all that is seen below it. What they forked meanwhile is ours
// afterwards.
void kill_tree(pid_t child);

// The same without the child itself.
void kill_below(pid_t child);

// Kills what is below us until nothing is, and waits for each. What they have used.
Spent end_descendants();

}  // namespace sluice
