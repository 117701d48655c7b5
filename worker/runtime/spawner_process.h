// The inside of the spawner process; see spawner.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/runtime/spawner.h"

namespace sluice {

enum class SpawnerOp : std::uint64_t {
  spawn,
  isolate,
  terminate,
  kill,
  channel
};

constexpr std::size_t kPacketFdsMax = 4;

// Head of every packet to the spawner. A spawn goes on with its ProgramLimits and NUL-terminated
// texts: working directory, user, number of arguments, arguments, environment; and carries stdin,
// stdout, stderr and, where there is one, the descriptor 3. An isolate goes on with its limits and
// the name of its handler, and carries the ends of its two sockets; a channel carries its far end.
struct SpawnerHead {
  SpawnerOp op = SpawnerOp::spawn;
  std::uint64_t id = 0;
  std::uint64_t tells_start = 0;  // of a spawn: 0 or 1
};

// Never returns. `fds` are the sockets to the node, one for each channel.
[[noreturn]] void run_spawner(const std::vector<int>& fds, const IsolateMain& isolate_main);

}  // namespace sluice
