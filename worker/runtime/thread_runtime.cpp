#include "worker/runtime/thread_runtime.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "common/clock.h"
#include "common/limits.h"
#include "worker/runtime/wake.h"

namespace sluice {

namespace {

// What pool threads and the loop share. Outlives the runtime when a handler does not return.
struct Shared {
  std::map<std::string, TaskHandler, std::less<>> handlers;  // never changes
  WakeFd wake;

  std::mutex mutex;  // guards all below
  std::condition_variable changed;
  std::deque<std::shared_ptr<Task::State>> queue;
  std::vector<RuntimeEvent> events;
  std::size_t idle_count = 0;
  std::size_t thread_count = 0;
  bool is_closing = false;

  void tell(RuntimeEvent event) {
    const std::lock_guard lock(mutex);
    if (is_closing) return;
    events.push_back(std::move(event));
    if (events.size() == 1) wake.set();
  }
};

}  // namespace

struct Task::State {
  Assignment assignment;
  std::stop_source stop;
  std::weak_ptr<Shared> shared;
  std::mutex mutex;  // guards the reason and the last progress
  std::optional<StopReason> reason;
  std::uint32_t percent = 0;
  std::string text;

  void tell(std::optional<std::string> checkpoint) {
    const auto target = shared.lock();
    if (!target) return;
    AttemptProgress progress;
    {
      const std::lock_guard lock(mutex);
      progress = {assignment.job.id, assignment.job.fence, percent, text, std::move(checkpoint)};
    }
    target->tell(std::move(progress));
  }
};

Task::Task(std::shared_ptr<State> state) : state_(std::move(state)) {}

const std::string& Task::payload() const {
  return state_->assignment.job.payload;
}

const std::string& Task::content_type() const {
  return state_->assignment.job.content_type;
}

const std::string& Task::last_checkpoint() const {
  return state_->assignment.job.checkpoint;
}

std::string_view Task::id() const {
  return state_->assignment.job.id.view();
}

const std::string& Task::name() const {
  return state_->assignment.job.task;
}

const std::string& Task::queue() const {
  return state_->assignment.job.queue;
}

std::uint32_t Task::attempt() const {
  return state_->assignment.job.fence.attempt;
}

std::uint32_t Task::retry_count() const {
  return state_->assignment.job.retry_count;
}

std::uint32_t Task::max_retries() const {
  return state_->assignment.job.max_retries;
}

std::string Task::fence() const {
  const Fence& fence = state_->assignment.job.fence;
  return std::to_string(fence.epoch) + "." + std::to_string(fence.attempt);
}

std::string_view Task::header(std::string_view header_name) const {
  for (const Header& header : state_->assignment.job.headers)
    if (header.name == header_name) return header.value;
  return {};
}

std::optional<std::int64_t> Task::remaining_ms() const {
  const std::int64_t deadline = state_->assignment.deadline_mono_ms;
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
    state_->text = text.substr(0, kProgressTextBytesMax);
  }
  state_->tell(std::nullopt);
}

void Task::checkpoint(std::string_view bytes) {
  if (bytes.size() > kCheckpointBytesMax)
    throw std::length_error("a checkpoint has at most " + std::to_string(kCheckpointBytesMax) +
                            " bytes, this one " + std::to_string(bytes.size()));
  state_->tell(std::string(bytes));
}

namespace {

TaskOutcome call(const TaskHandler& handler, Task& task) {
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

// The reason of a stop decides, but a handler that finished while the node was leaving has
// finished.
AttemptResult judge(const RunJob& job, std::optional<StopReason> reason, TaskOutcome outcome) {
  AttemptResult result;
  result.id = job.id;
  result.fence = job.fence;
  const bool is_stopped = reason && !(*reason == StopReason::hand_back && outcome.is_completed);
  if (!is_stopped) {
    result.outcome = outcome.is_completed ? Outcome::completed : Outcome::failed;
    result.result = std::move(outcome.result);
    result.error_code = std::move(outcome.error_code);
    result.error = std::move(outcome.error);
    result.retryable = outcome.retryable;
    result.retry_after_ms = outcome.retry_after_ms;
  } else if (*reason == StopReason::timed_out) {
    result.outcome = Outcome::failed;
    result.error_code = "timeout";
    result.error = "stopped after " + std::to_string(job.timeout_ms) + " ms";
  } else {
    result.outcome = *reason == StopReason::hand_back ? Outcome::handed_back : Outcome::cancelled;
  }
  return result;
}

void run_one(Shared& shared, const std::shared_ptr<Task::State>& state) {
  const RunJob& job = state->assignment.job;
  Task task(state);
  const auto handler = shared.handlers.find(job.task);
  TaskOutcome outcome =
      handler == shared.handlers.end()
          ? TaskOutcome::failed("task_not_offered", "this node has no handler for " + job.task)
          : call(handler->second, task);
  std::optional<StopReason> reason;
  {
    const std::lock_guard lock(state->mutex);
    reason = state->reason;
  }
  shared.tell(AttemptDone{judge(job, reason, std::move(outcome))});
}

void serve(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  while (true) {
    ++shared->idle_count;
    shared->changed.wait(lock, [&] { return shared->is_closing || !shared->queue.empty(); });
    --shared->idle_count;
    if (shared->is_closing) break;
    const auto state = std::move(shared->queue.front());
    shared->queue.pop_front();
    lock.unlock();
    run_one(*shared, state);
    lock.lock();
  }
  --shared->thread_count;
  shared->changed.notify_all();
}

class ThreadRuntime : public Runtime {
 public:
  explicit ThreadRuntime(std::map<std::string, TaskHandler, std::less<>> handlers)
      : shared_(std::make_shared<Shared>()) {
    shared_->handlers = std::move(handlers);
  }

  ~ThreadRuntime() override { (void)shut_down(); }

  void start(Assignment assignment) override {
    auto state = std::make_shared<Task::State>();
    state->assignment = std::move(assignment);
    state->shared = shared_;
    running_[{state->assignment.job.id, state->assignment.job.fence}] = state;
    const std::lock_guard lock(shared_->mutex);
    shared_->queue.push_back(std::move(state));
    if (shared_->idle_count >= shared_->queue.size()) {
      shared_->changed.notify_one();
    } else {
      ++shared_->thread_count;
      std::thread(serve, shared_).detach();
    }
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = running_.find({id, fence});
    if (it == running_.end()) return;
    {
      const std::lock_guard lock(it->second->mutex);
      if (!it->second->reason || reason == StopReason::dropped) it->second->reason = reason;
    }
    it->second->stop.request_stop();
  }

  [[nodiscard]] int fd() const override { return shared_->wake.fd(); }

  void poll(Now, std::vector<RuntimeEvent>& events) override {
    shared_->wake.clear();
    std::vector<RuntimeEvent> happened;
    {
      const std::lock_guard lock(shared_->mutex);
      happened.swap(shared_->events);
    }
    for (RuntimeEvent& event : happened) {
      if (const auto* done = std::get_if<AttemptDone>(&event))
        running_.erase({done->result.id, done->result.fence});
      events.push_back(std::move(event));
    }
  }

  // Threads are detached, so that one handler that never returns cannot keep the node from leaving;
  // here they get two seconds to end.
  [[nodiscard]] bool shut_down() override {
    for (auto& [key, state] : running_)
      state->stop.request_stop();
    std::unique_lock lock(shared_->mutex);
    shared_->is_closing = true;
    shared_->changed.notify_all();
    return shared_->changed.wait_for(lock, std::chrono::seconds(2), [&] {
      return shared_->thread_count == 0;
    });
  }

 private:
  std::shared_ptr<Shared> shared_;
  std::unordered_map<AttemptKey, std::shared_ptr<Task::State>> running_;
};

}  // namespace

ThreadRuntimeBuilder::ThreadRuntimeBuilder() = default;
ThreadRuntimeBuilder::~ThreadRuntimeBuilder() = default;

void ThreadRuntimeBuilder::add_handler(std::string name, TaskHandler handler) {
  handlers_[std::move(name)] = std::move(handler);
}

Result<void> ThreadRuntimeBuilder::add(TaskSettings& settings) {
  auto named = settings.take_text("handler");
  if (!named) return tl::unexpected(named.error());
  const std::string name = named->value_or(settings.task());
  const auto handler = handlers_.find(name);
  if (handler == handlers_.end())
    return tl::unexpected(settings.error("handler", "there is no handler " + name));
  by_task_[settings.task()] = handler->second;
  return {};
}

std::unique_ptr<Runtime> ThreadRuntimeBuilder::build() {
  return std::make_unique<ThreadRuntime>(std::move(by_task_));
}

}  // namespace sluice
