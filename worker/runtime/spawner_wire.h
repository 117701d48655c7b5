// What a node says to its spawner, and to the keepers; see spawner.h. Structs as they stand: both
// ends are of one program.
#pragma once

#include <cstdint>

namespace sluice {

enum class SpawnerOp : std::uint64_t {
  keeper,   // one more; the packet carries its end of the socket over which it is given programs
  isolate,  // goes on with its ProgramLimits and the name of its handler; carries the ends of two
            // sockets, and its standard output
  resume,   // a keeper that somebody stopped goes on
  kill,     // an isolate; or what is below a keeper that is stopped, so that it can hear
  channel   // carries the far end of another one
};

struct SpawnerHead {
  SpawnerOp op = SpawnerOp::keeper;
  std::uint64_t id = 0;  // of the keeper or the isolate
};

enum class KeeperOp : std::uint64_t {
  run,        // goes on with its ProgramLimits and NUL-terminated texts: working directory, user,
              // arguments, environment; carries stdin, stdout, stderr and maybe the descriptor 3
  terminate,  // SIGTERM to its group
  kill        // all of it
};

struct KeeperHead {
  KeeperOp op = KeeperOp::run;
  std::uint64_t id = 0;  // of the program
  std::uint32_t argument_count = 0;
  std::uint32_t tells_start = 0;  // 0 or 1
};

}  // namespace sluice
