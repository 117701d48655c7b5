// Kind `isolate`: a handler that is compiled in runs in a child process, which is reused for one
// job after another (process_pool.h). What it does to its process (a crash, a leak, a hang) costs
// that one attempt.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "worker/runtime/handler_call.h"
#include "worker/runtime/process_pool.h"
#include "worker/runtime/program_limits.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

class IsolateRuntimeBuilder : public RuntimeBuilder {
 public:
  // `handlers` are those that settings may name; must outlive the builder.
  explicit IsolateRuntimeBuilder(const Handlers& handlers) : handlers_(handlers) {}

  // Settings: handler, isolates_min, isolates_max, idle, reuse, recycle_after, recycle_memory,
  // timeout, grace, limits.memory, limits.cpu, limits.file_size.
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t concurrency) const override;
  void teach(const std::string& node, Spawner& spawner) override;
  void prepare(const std::string& node, Spawner& spawner) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  const Handlers& handlers_;

  struct IsolateTask {
    std::string handler;
    PoolSettings pool;
    ProgramLimits limits;
  };

  std::map<std::string, IsolateTask, std::less<>> tasks_;
  SpawnerChannel* spawner_ = nullptr;  // the node's
  std::string node_;
};

}  // namespace sluice
