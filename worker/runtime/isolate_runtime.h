// Kind `isolate`: a handler that is compiled in runs in a child process, which is reused for one
// job after another. What it does to its process (a crash, a leak, a hang) costs that one attempt.
//
// Each task has a pool of its own. It begins with `isolates_min`, grows by one whenever a job finds
// all of them busy, up to `isolates_max`, and goes back after `idle`. A job beyond that waits here,
// in its slot, first in first out. An isolate is replaced at once when it dies at work; one that
// dies before it was given anything is replaced when a job asks, so that a machine without memory
// does not fork in a circle.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "worker/runtime/handler_call.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// One task's settings.
struct IsolateTask {
  std::uint32_t isolates_min = 1;     // there when idle; started with the node
  std::uint32_t isolates_max = 0;     // 0 = as many as there are slots
  std::int64_t idle_ms = 30'000;      // one above the minimum leaves after so long without a job
  std::uint32_t jobs_max = 0;         // replaced after so many jobs; 0 = never, 1 = never reused
  std::int64_t memory_max_bytes = 0;  // replaced after a job when it ever had more; 0 = never
  std::int64_t timeout_ms = 0;        // 0 = only the job's; else the lesser of both
  std::int64_t grace_ms = 5000;       // between asking to stop and SIGKILL
};

class IsolateRuntimeBuilder : public RuntimeBuilder {
 public:
  // `handlers` are those that settings may name; must outlive the builder.
  explicit IsolateRuntimeBuilder(const Handlers& handlers) : handlers_(handlers) {}

  // Settings: handler, isolates_min, isolates_max, idle, reuse, recycle_after, recycle_memory,
  // timeout, grace.
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  void prepare(const std::string& node, Spawner& spawner) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  const Handlers& handlers_;
  Handlers by_task_;
  std::map<std::string, IsolateTask, std::less<>> tasks_;
  SpawnerChannel* spawner_ = nullptr;  // the node's
  std::string node_;
};

}  // namespace sluice
