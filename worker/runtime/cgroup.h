// A control group of the kernel: processes whose memory and number are counted, limited and ended
// together, whatever they start. One is used for one job after another: to make, limit and remove
// one for each would cost about 140 us, entering it costs 7.
//
// Each group is locked (flock) by who made it, so a group that can be locked is nobody's any more:
// see sweep_cgroups. (Rejected: libcgroup, which looks for mounts anew and opens paths in the
// process that enters, where nothing may allocate, and knows none of cgroup.kill and resets of
// memory.peak.)
#pragma once

#include <cstdint>
#include <string>

#include <tl/expected.hpp>

#include "worker/runtime/cgroup_place.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

// Of all processes in the group together; 0 = no limit.
struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  // and no swap beside it
  std::uint64_t processes = 0;     // and threads
};

// Since begin().
struct CgroupUsage {
  // Of their memory, files in the page cache included; 0 = not known (a kernel before 6.12 with v2
  // forgets no peak, and an earlier job had more).
  std::int64_t memory_bytes_max = 0;
  bool has_run_out = false;  // the kernel killed processes at the limit of memory
};

// It stays when the object ends, for a forked process has one too: see remove().
class Cgroup {
 public:
  Cgroup() = default;  // none
  Cgroup(Cgroup&&) = default;
  Cgroup& operator=(Cgroup&&) = default;

  // A new one in `place`, or an errno.
  [[nodiscard]] static tl::expected<Cgroup, int> make(const CgroupPlace& place);

  [[nodiscard]] bool is_made() const { return memory_.directory.is_open(); }

  // For the next job, while no process is in it. 0, or an errno: then it is not to be used.
  [[nodiscard]] int begin(const CgroupLimits& limits);

  // Puts the calling process into it. Only writes to descriptors that are open: allowed between
  // vfork and exec. 0, or an errno.
  [[nodiscard]] int enter() const noexcept;

  [[nodiscard]] CgroupUsage usage() const;

  // Whether the last job left memory charged to it that the next one may lack: files in /dev/shm,
  // mostly. Such a group is to be removed, and another made.
  [[nodiscard]] bool is_worn() const;

  // Kills all that is in it, and what appears meanwhile, for two seconds at most; then the group is
  // gone, and there is none. One that cannot be ended is left to sweep_cgroups.
  void remove();

 private:
  // In one tree. Of v2, `processes_` is not open: `memory_` is both.
  struct Directory {
    std::string path;
    UniqueFd directory;
    UniqueFd entrance;  // cgroup.procs
  };

  [[nodiscard]] static int open(const std::string& parent,
                                const std::string& name,
                                Directory& made);
  [[nodiscard]] int limit_memory(std::uint64_t bytes);
  [[nodiscard]] std::uint64_t killed_ever() const;
  [[nodiscard]] std::int64_t peak() const;

  bool is_unified_ = true;
  Directory memory_;
  Directory processes_;
  UniqueFd peak_;  // a peak is reset for the readers of one descriptor
  CgroupLimits limits_;
  std::uint64_t killed_before_ = 0;
  std::int64_t peak_before_ = 0;
};

// Ends what a node that is gone has left in `place`: its groups and what is in them. How many.
int sweep_cgroups(const CgroupPlace& place);

}  // namespace sluice
