// Kind `exec`: one process per job. worker/README.md has the contract for programs; in short:
// payload on stdin or in arguments, result on stdout, words on stderr, exit code 0 / 75 / 65.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/limits.h"
#include "worker/runtime/program_settings.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// One task's settings.
struct ExecTask {
  ProgramSettings program;  // its argv is a template: program_arguments.h
  bool is_payload_on_stdin = true;
  std::int64_t timeout_ms = 0;   // 0 = only the job's; else the lesser of both
  std::int64_t grace_ms = 5000;  // between SIGTERM and SIGKILL
  std::uint64_t output_bytes_max = kResultBytesMax;
};

class ExecRuntimeBuilder : public RuntimeBuilder {
 public:
  // Settings: those of take_program(), stdin ("payload" or "none"), timeout, grace, limits.output.
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t concurrency) const override;
  void prepare(const std::string& node, Spawner& spawner) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  std::map<std::string, ExecTask, std::less<>> tasks_;
  SpawnerChannel* spawner_ = nullptr;  // the node's
  std::string node_;
};

}  // namespace sluice
