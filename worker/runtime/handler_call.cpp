#include "worker/runtime/handler_call.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/clock.h"
#include "common/limits.h"
#include "worker/core/text.h"

namespace sluice {

namespace {

// A handler that was asked to stop still saves its place, but does not wait for a broker that is
// away.
constexpr std::chrono::seconds kStoppedWait{1};

// The number of the checkpoint.
std::uint64_t report(Task::State& state, std::optional<std::string> checkpoint) {
  AttemptProgress progress;
  {
    const std::lock_guard lock(state.mutex);
    const std::uint64_t awaited_n = checkpoint ? ++state.checkpoint_n : 0;
    progress = {state.job.id,
                state.job.fence,
                state.percent,
                state.text,
                std::move(checkpoint),
                awaited_n};
  }
  const std::uint64_t number = progress.awaited_n;
  state.tell(std::move(progress));
  return number;
}

}  // namespace

void Task::State::ask_to_stop() {
  {
    const std::lock_guard lock(mutex);
    stopping = std::this_thread::get_id();
  }
  stop.request_stop();
  const std::lock_guard lock(mutex);
  stopping = {};
}

void Task::State::answer(std::uint64_t awaited_n, bool is_recorded) {
  {
    const std::lock_guard lock(mutex);
    std::uint64_t& newest = is_recorded ? recorded_n : refused_n;
    newest = std::max(newest, awaited_n);
  }
  answered.notify_all();
}

Task::Task(std::shared_ptr<State> state) : state_(std::move(state)) {}

const std::string& Task::payload() const {
  return state_->job.payload;
}

const std::string& Task::content_type() const {
  return state_->job.content_type;
}

const std::string& Task::last_checkpoint() const {
  return state_->job.checkpoint;
}

std::string_view Task::id() const {
  return state_->job.id.view();
}

const std::string& Task::name() const {
  return state_->job.task;
}

const std::string& Task::queue() const {
  return state_->job.queue;
}

std::uint32_t Task::attempt() const {
  return state_->job.fence.attempt;
}

std::uint32_t Task::retry_count() const {
  return state_->job.retry_count;
}

std::uint32_t Task::max_retries() const {
  return state_->job.max_retries;
}

Fence Task::fence() const {
  return state_->job.fence;
}

std::string_view Task::header(std::string_view header_name) const {
  for (const Header& header : state_->job.headers)
    if (header.name == header_name) return header.value;
  return {};
}

std::optional<std::chrono::steady_clock::time_point> Task::deadline() const {
  if (state_->deadline_mono_ms == kNever) return std::nullopt;
  return std::chrono::steady_clock::time_point(std::chrono::milliseconds(state_->deadline_mono_ms));
}

std::optional<std::int64_t> Task::remaining_ms() const {
  const std::int64_t deadline = state_->deadline_mono_ms;
  if (deadline == kNever) return std::nullopt;
  return std::max<std::int64_t>(deadline - clock_now().mono_ms, 0);
}

bool Task::stop_requested() const {
  return state_->stop.stop_requested();
}

std::stop_token Task::stop_token() const {
  return state_->stop.get_token();
}

void Task::progress(std::uint32_t percent, std::string_view text) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->percent = percent;
    state_->text = clean_text(text, kProgressTextBytesMax);
  }
  (void)report(*state_, std::nullopt);
}

bool Task::checkpoint(std::string_view bytes) {
  if (bytes.size() > kCheckpointBytesMax)
    throw std::length_error("a checkpoint has at most " + std::to_string(kCheckpointBytesMax) +
                            " bytes, this one " + std::to_string(bytes.size()));
  const std::uint64_t number = report(*state_, std::string(bytes));
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  const auto is_answered = [&] {
    return state.recorded_n >= number || state.refused_n >= number;
  };
  if (state.stopping == std::this_thread::get_id()) return false;  // nobody else could answer
  if (!state.answered.wait(lock, state.stop.get_token(), is_answered))
    state.answered.wait_for(lock, kStoppedWait, is_answered);
  return state.recorded_n >= number;
}

void Task::log(std::string_view text) {
  if (text.ends_with('\n')) return state_->write_log(text);
  state_->write_log(std::string(text) + "\n");
}

Result<std::string> take_handler(TaskSettings& settings,
                                 const Handlers& handlers,
                                 const Handlers& for_isolates) {
  auto named = settings.take_text("handler");
  if (!named) return tl::unexpected(named.error());
  std::string name = named->value_or(settings.task());
  if (handlers.contains(name)) return name;
  if (for_isolates.contains(name))
    return tl::unexpected(settings.error(
        "run",
        name + " ends the process that it runs in, here the node: it wants run = \"isolate\""));
  std::string known;
  for (const auto& [other, callable] : handlers)
    known += (known.empty() ? "" : ", ") + other;
  return tl::unexpected(
      settings.error("handler", "there is no handler " + name + "; there are " + known));
}

Handlers with_middlewares(Handlers handlers, const std::vector<Middleware>& middlewares) {
  for (auto& [name, handler] : handlers)
    for (auto middleware = middlewares.rbegin(); middleware != middlewares.rend(); ++middleware)
      handler = [outer = *middleware, inner = std::move(handler)](Task& task) {
        return outer(task, [&inner](Task& same) { return call_handler(inner, same); });
      };
  return handlers;
}

namespace {

// Of a process that the handler forked, which has come back from it beside the one that was called:
// it has no say, and no place to go on.
class OnlyInThisProcess {
 public:
  OnlyInThisProcess() = default;
  OnlyInThisProcess(const OnlyInThisProcess&) = delete;
  OnlyInThisProcess& operator=(const OnlyInThisProcess&) = delete;

  ~OnlyInThisProcess() {
    if (::getpid() != self_) ::_exit(0);
  }

 private:
  const pid_t self_ = ::getpid();
};

}  // namespace

TaskOutcome call_handler(const TaskHandler& handler, Task& task) {
  const OnlyInThisProcess here;
  try {
    return handler(task);
  } catch (const TaskFailed& failed) {
    return TaskOutcome::failed(failed.code(), failed.what(), failed.can_retry());
  } catch (const std::exception& exception) {
    return TaskOutcome::failed("exception", exception.what());
  } catch (...) {
    return TaskOutcome::failed("exception",
                               "the handler threw something that is no std::exception");
  }
}

AttemptResult to_result(const RunJob& job, TaskOutcome outcome) {
  AttemptResult result;
  result.id = job.id;
  result.fence = job.fence;
  result.outcome = outcome.is_completed ? Outcome::completed : Outcome::failed;
  result.result = std::move(outcome.result);
  result.error_code = std::move(outcome.error_code);
  result.error = std::move(outcome.error);
  result.retryable = outcome.retryable;
  result.retry_after_ms = outcome.retry_after_ms;
  return result;
}

AttemptResult after_stop(const RunJob& job, StopReason reason, AttemptResult result) {
  if (reason == StopReason::hand_back && result.outcome == Outcome::completed) return result;
  AttemptResult stopped;
  stopped.id = job.id;
  stopped.fence = job.fence;
  stopped.usage = result.usage;
  if (reason == StopReason::timed_out) {
    stopped.outcome = Outcome::failed;
    stopped.error_code = "timeout";
    stopped.error = kTimeWasOver;
  } else {
    stopped.outcome = reason == StopReason::hand_back ? Outcome::handed_back : Outcome::cancelled;
  }
  return stopped;
}

}  // namespace sluice
