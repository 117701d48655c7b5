// How many processes a task's pool keeps, and for how long.
#pragma once

#include <cstdint>
#include <string>

#include "common/result.h"
#include "worker/runtime/task_settings.h"

namespace sluice {

struct PoolSettings {
  std::uint32_t processes_min = 1;    // there when idle; started with the node
  std::uint32_t processes_max = 0;    // 0 = as many as there are slots
  std::int64_t idle_ms = 30'000;      // one above the minimum leaves after so long without a job
  std::uint32_t jobs_max = 0;         // replaced after so many jobs; 0 = never, 1 = never reused
  std::int64_t memory_max_bytes = 0;  // replaced after a job when one had more; 0 = never
  std::int64_t timeout_ms = 0;        // 0 = only the job's; else the lesser of both
  std::int64_t grace_ms = 5000;       // between asking to stop and SIGKILL

  // How many there may be on a node with so many slots.
  [[nodiscard]] std::uint32_t most(std::uint32_t concurrency) const;
};

// Settings: NAME_min, NAME_max, idle, recycle_after, timeout, grace. `name` is what the processes
// are called: "isolates".
[[nodiscard]] Result<PoolSettings> take_pool_settings(TaskSettings& settings,
                                                      const std::string& name);

}  // namespace sluice
