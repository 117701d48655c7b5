// What processes cost: CPU time, and peak memory.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>

#include "common/protocol/messages.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

struct Spent {
  std::int64_t cpu_us = 0;
  std::int64_t rss_bytes_max = 0;  // of the greatest one, where it stands for several

  void add(const Spent& other);
};

// As getrusage and wait4 tell it.
[[nodiscard]] Spent spent_of(const rusage& usage);

// The peak memory that this process is told of (getrusage) can be made to begin anew, for a job
// after others. Where /proc does not allow that, it stays the one of its whole life.
class PeakMemory {
 public:
  PeakMemory();

  void begin() const;

 private:
  UniqueFd clear_refs_;
};

// One job after another of a process that is not ours to change: its CPU time, with that of the
// children that it has waited for, and its peak memory, without theirs.
class ProcessMeter {
 public:
  // Once, while it lives. Without it, and without the right to look, nothing is known: all is 0.
  void attach(pid_t pid);

  // A job is about to be given to it.
  void begin();

  // Since the last one, or since the process began; the peak since begin(). The sum of all is never
  // more than what the process used.
  [[nodiscard]] Usage lap();

 private:
  UniqueFd stat_;
  UniqueFd status_;
  UniqueFd clear_refs_;
  clockid_t clock_ = 0;  // of its own CPU time
  std::int64_t told_cpu_ms_ = 0;
  std::int64_t fault_count_ = 0;
  bool is_raised_ = false;  // the peak may be above what it has by now
};

}  // namespace sluice
