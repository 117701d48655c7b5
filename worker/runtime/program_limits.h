// What a program may use, and as whom it runs; of the process that becomes it.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/runtime/cgroup.h"

namespace sluice {

// 0 = as the node's own. Of each of its processes by itself, with setrlimit(2), but for what a
// cgroup holds. Sent as it stands between the processes.
struct ProgramLimits {
  std::uint64_t memory_bytes = 0;  // in a cgroup of all its processes; else their address space
  std::uint64_t cpu_s = 0;         // SIGXCPU; a second later SIGKILL
  std::uint64_t open_files = 0;
  std::uint64_t processes = 0;   // and threads: of it in a cgroup, else of its user on this machine
  std::uint64_t file_bytes = 0;  // of a file that it writes; SIGXFSZ

  // Takes out what a cgroup holds.
  [[nodiscard]] CgroupLimits take_for_group();
};

// The CPU time of one job after another in this process, without that of its children: SIGXCPU when
// it is used up. (RLIMIT_CPU counts from the process' start, and in ticks.) 0: nothing is counted.
class CpuTimer {
 public:
  explicit CpuTimer(std::uint64_t limit_s);
  CpuTimer(const CpuTimer&) = delete;
  CpuTimer& operator=(const CpuTimer&) = delete;
  ~CpuTimer();

  void begin() { set(limit_s_); }

  void end() { set(0); }

 private:
  void set(std::uint64_t seconds);

  std::uint64_t limit_s_;
  timer_t timer_{};
};

// In the program's own process, before it is executed. A limit that is above the node's own stays
// the node's. 0, or an errno.
[[nodiscard]] int apply_limits(const ProgramLimits& limits);

// As whom a program runs.
struct ProgramUser {
  bool is_other = false;  // than this process
  uid_t id = 0;
  gid_t group = 0;
  std::vector<gid_t> groups;  // all of them
};

// An empty name is this process' own. 0, or an errno: EPERM for a name that nobody has.
[[nodiscard]] int find_user(const std::string& name, ProgramUser& user);

// As apply_limits: with system calls only. Pipes that are standard streams become the user's own,
// so that it may open /dev/stderr.
[[nodiscard]] int become_user(const ProgramUser& user);

}  // namespace sluice
