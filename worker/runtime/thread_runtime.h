// Runs handlers on pool threads of the node: the cheapest way, for code that is trusted. A handler
// cannot be killed; one that ignores a stop keeps its slot until it returns.
//
// Threads are made when they are needed, at most one for each attempt that runs at once, and kept.
#pragma once

#include <memory>

#include "worker/runtime/handler_call.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// Kind `thread`. Settings: `handler`, the name of a registered one (default: the task's name).
class ThreadRuntimeBuilder : public RuntimeBuilder {
 public:
  // `handlers` are those that settings may name; must outlive the builder.
  explicit ThreadRuntimeBuilder(const Handlers& handlers);

  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  const Handlers& handlers_;
  Handlers by_task_;
};

}  // namespace sluice
