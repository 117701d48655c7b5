// The inside of the spawner process; see spawner.h.
#pragma once

#include <optional>
#include <vector>

#include "worker/runtime/spawner.h"

namespace sluice {

// Never returns. `fds` are the sockets to the node, one for each channel.
[[noreturn]] void run_spawner(const std::vector<int>& fds,
                              const IsolateMain& isolate_main,
                              const std::optional<CgroupPlace>& groups);

}  // namespace sluice
