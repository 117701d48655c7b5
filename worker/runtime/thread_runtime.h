// Runs handlers on pool threads of the node: the cheapest way, for code that is trusted. A handler
// cannot be killed; one that ignores a stop keeps its slot until it returns.
//
// Threads are made when they are needed, at most one for each attempt that runs at once, and kept.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/runtime/task_table.h"
#include "worker/sdk/task.h"

namespace sluice {

// Kind `thread`. Settings: `handler`, the name of a registered one (default: the task's name).
class ThreadRuntimeBuilder : public RuntimeBuilder {
 public:
  ThreadRuntimeBuilder();
  ~ThreadRuntimeBuilder() override;

  // A handler that settings may name.
  void add_handler(std::string name, TaskHandler handler);

  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  std::map<std::string, TaskHandler> handlers_;
  std::map<std::string, TaskHandler, std::less<>> by_task_;
};

}  // namespace sluice
