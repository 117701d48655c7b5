// One call of a handler (sdk/task.h), wherever it runs: on a pool thread of the node or in an
// isolate.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "common/protocol/messages.h"
#include "common/time.h"
#include "worker/core/attempt.h"
#include "worker/runtime/task_table.h"
#include "worker/sdk/task.h"

namespace sluice {

// The handlers that a program brings along, by the names that settings use.
using Handlers = std::map<std::string, TaskHandler, std::less<>>;

// What a Task shows of its attempt; the place where it runs says where progress goes.
struct Task::State {
  // `deadline` is when the attempt times out, kNever without a time-out.
  State(RunJob run_job, std::int64_t deadline)
      : job(std::move(run_job)), deadline_mono_ms(deadline) {}

  State(const State&) = delete;
  State& operator=(const State&) = delete;
  virtual ~State() = default;

  virtual void tell(AttemptProgress progress) = 0;  // from any thread

  virtual void write_log(std::string_view /*bytes*/) {}  // from any thread

  // Asks the handler to stop. What it registered for that is called here.
  void ask_to_stop();

  // Ends the waits for this checkpoint and those before it. From any thread.
  void answer(std::uint64_t awaited_n, bool is_recorded);

  const RunJob job;
  const std::int64_t deadline_mono_ms;
  std::stop_source stop;
  std::mutex mutex;           // guards all below
  std::uint32_t percent = 0;  // the last progress, which comes with every checkpoint
  std::string text;
  std::uint64_t checkpoint_n = 0;  // told so far
  std::uint64_t recorded_n = 0;
  std::uint64_t refused_n = 0;
  std::thread::id stopping;  // the thread in ask_to_stop(), which answers checkpoints as well
  std::condition_variable_any answered;
};

// The setting `handler` of a task, the name of one of `handlers` (default: the task's own name).
// One of `for_isolates` is refused with a sentence.
[[nodiscard]] Result<std::string> take_handler(TaskSettings& settings,
                                               const Handlers& handlers,
                                               const Handlers& for_isolates = {});

// Each handler within all of them; the first is the outermost.
[[nodiscard]] Handlers with_middlewares(Handlers handlers,
                                        const std::vector<Middleware>& middlewares);

// Calls it and takes whatever it does for an outcome; never throws. A process that the handler
// forked, and that comes back from it too, ends here.
[[nodiscard]] TaskOutcome call_handler(const TaskHandler& handler, Task& task);

// As the attempt's result, not yet within the bounds of the wire.
[[nodiscard]] AttemptResult to_result(const RunJob& job, TaskOutcome outcome);

// What is left of a handler's result after a stop: the reason decides, but a handler that finished
// while the node was leaving has finished.
[[nodiscard]] AttemptResult after_stop(const RunJob& job, StopReason reason, AttemptResult result);

}  // namespace sluice
