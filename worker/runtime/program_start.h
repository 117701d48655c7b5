// The step from a keeper to a program, without a copy of the keeper: as posix_spawn does it, with
// what that cannot do (limits, a user, a parent-death signal).
#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <vector>

#include "worker/runtime/cgroup.h"
#include "worker/runtime/program_limits.h"
#include "worker/runtime/spawn_report.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

// Texts are the caller's and stand while it is started.
struct ProgramOrder {
  bool tells_start = false;  // over the keeper's own line, before anything that it could say itself
  ProgramLimits limits;
  const Cgroup* group = nullptr;  // which it enters, or none
  const char* cwd = "";           // empty: the keeper's
  const char* user = "";          // empty: the keeper's
  std::vector<char*> argv;        // ends with a null pointer, as the next
  std::vector<char*> environment;
  std::array<int, 4> fds{-1, -1, -1, -1};  // becomes 0 to 3; without the last it has no 3
};

// A stack for the moment between clone and exec.
class StartStack {
 public:
  // Throws std::system_error when there is no memory.
  StartStack();
  ~StartStack();
  StartStack(const StartStack&) = delete;
  StartStack& operator=(const StartStack&) = delete;

  [[nodiscard]] void* top() const;

 private:
  void* bottom_;
};

struct Started {
  pid_t pid = -1;               // -1: there is none, and nothing to wait for
  int error = 0;                // not 0: it is no program, and has ended or never was
  bool is_cwd_refused = false;  // the error is of its working directory
};

// Returns when it is the program, or cannot be: in a group, and a session, of its own, with
// SIGKILL when its parent dies. `report_fd` is where a start is told. For a process with one
// thread.
[[nodiscard]] Started start_program(const ProgramOrder& order,
                                    const SpawnReport& start_report,
                                    int report_fd,
                                    const StartStack& stack);

}  // namespace sluice
