// The inside of the spawner process; see spawner.h.
#pragma once

#include <cstdint>

namespace sluice {

enum class SpawnerOp : std::uint64_t {
  spawn,
  terminate,
  kill
};

// Head of every packet to the spawner. A spawn goes on with NUL-terminated texts: working
// directory, number of arguments, arguments, environment; and carries stdin, stdout and stderr.
struct SpawnerHead {
  SpawnerOp op = SpawnerOp::spawn;
  std::uint64_t id = 0;
};

// Never returns. `fd` is the socket to the node.
[[noreturn]] void run_spawner(int fd);

}  // namespace sluice
