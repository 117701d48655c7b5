// What the processes below a node tell it. Sent as it stands between them.
#pragma once

#include <cstdint>

#include "worker/runtime/cgroup.h"
#include "worker/runtime/process_meter.h"

namespace sluice {

// The program or isolate has ended and nothing of it is left; or, with a `started_pid`, it begins.
struct SpawnReport {
  std::uint64_t id = 0;             // as it was asked for; 0: of the keeper, which is no more
  std::uint64_t keeper = 0;         // of a program: the number of its keeper; 0 for an isolate
  std::int32_t started_pid = 0;     // not 0: no end, all else says nothing
  std::int32_t wait_status = 0;     // as of waitpid
  std::int32_t exec_errno = 0;      // not 0: it never ran
  std::int32_t is_cwd_refused = 0;  // that is of its working directory
  std::int64_t cpu_ms = 0;          // of the program and everything it waited for
  std::int64_t left_cpu_ms = 0;     // of what it left behind
  // The greatest of them; in a cgroup of all together. 0: not known.
  std::int64_t rss_bytes_max = 0;
  std::int32_t is_out_of_memory = 0;  // the kernel killed some of it at the limit of its cgroup
  std::int32_t is_keeper_lost = 0;    // somebody killed the keeper: the status is not known
  std::int32_t is_spawner_lost = 0;   // ended because the spawner died, through no fault of its own

  // `status` and `spent` as wait4 tells them of it.
  void take_end(int status, const Spent& spent);
  // Of a program, after take_end(): what its keeper had at most. The kernel says of the program
  // that it had at least as much, for it shared that memory until it was executed. So little more
  // says nothing about the program, but that it had no more: that is left standing while it is not
  // much.
  void take_keeper_peak(std::int64_t bytes);
  // Of what it left behind.
  void take_left(const Spent& left);
  // Of the cgroup that it was in, after the others.
  void take_group(const CgroupUsage& usage);
};

}  // namespace sluice
