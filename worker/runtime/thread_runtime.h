// Runs handlers on pool threads of the node: the cheapest way, for code that is trusted. A handler
// cannot be killed; one that ignores a stop keeps its slot until it returns.
//
// Threads are made when they are needed, at most one for each attempt that runs at once, and kept.
// Where the system has no thread to give, an attempt waits for one of those that are there; when
// there is none it is handed back.
#pragma once

#include <functional>
#include <memory>

#include "worker/runtime/handler_call.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// Runs its argument on a thread of its own; throws std::system_error as std::thread does.
using StartThread = std::function<void(std::function<void()>)>;

// Kind `thread`. Settings: `handler`, the name of a registered one (default: the task's name).
class ThreadRuntimeBuilder : public RuntimeBuilder {
 public:
  // `handlers` are those that settings may name; must outlive the builder. Without a
  // `start_thread` threads are the system's. Those of `for_isolates` would end the node.
  explicit ThreadRuntimeBuilder(const Handlers& handlers,
                                StartThread start_thread = {},
                                Handlers for_isolates = {});

  [[nodiscard]] Result<void> add(TaskSettings& settings) override;
  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  const Handlers& handlers_;
  StartThread start_thread_;
  Handlers for_isolates_;
  Handlers by_task_;
};

}  // namespace sluice
