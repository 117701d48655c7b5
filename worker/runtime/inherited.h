// What a process has from the one it was forked from, and is rid of.
#pragma once

#include <vector>

namespace sluice {

// Closes every descriptor from 3 on but these.
void keep_only(std::vector<int> fds);

// No handler, and none ignored.
void default_signals();

void unblock_signals();

}  // namespace sluice
