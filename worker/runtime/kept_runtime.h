// Kind `kept`: a program that stays and is given one job after another (process_pool.h), as lines
// of JSON or frames of msgpack on its standard input and output (kept_wire.h). worker/README.md has
// the contract for programs.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "worker/runtime/kept_wire.h"
#include "worker/runtime/process_pool.h"
#include "worker/runtime/program_settings.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// One task's settings.
struct KeptTask {
  ProgramSettings program;  // its argv is as it stands: no job fills it in
  KeptProtocol protocol = KeptProtocol::json;
  PoolSettings pool;
};

class KeptRuntimeBuilder : public RuntimeBuilder {
 public:
  // Settings: program, protocol ("json" or "msgpack"), cwd, env, pass_env, processes_min,
  // processes_max, idle, recycle_after, timeout, grace.
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t concurrency) const override;
  void prepare(const std::string& node, Spawner& spawner) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  std::map<std::string, KeptTask, std::less<>> tasks_;
  SpawnerChannel* spawner_ = nullptr;  // the node's
  std::string node_;
};

}  // namespace sluice
