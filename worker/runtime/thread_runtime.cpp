#include "worker/runtime/thread_runtime.h"

#include <condition_variable>
#include <ctime>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "worker/core/log_buffer.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/wake.h"

namespace sluice {

namespace {

struct ThreadAttempt;

// What pool threads and the loop share. Outlives the runtime when a handler does not return.
struct ThreadShared {
  Handlers handlers;  // by task; never changes
  WakeFd wake;

  std::mutex mutex;  // guards all below
  std::condition_variable changed;
  std::deque<std::shared_ptr<ThreadAttempt>> queue;
  std::vector<RuntimeEvent> events;
  std::size_t idle_count = 0;
  std::size_t thread_count = 0;
  bool is_waking = false;  // an idle thread was notified and has not taken anything yet
  bool is_closing = false;

  // A wake-up costs more than a short job. So only one is on its way at a time, and who was woken
  // wakes the next; threads that are busy meanwhile take what waits without one.
  void wake_one(std::unique_lock<std::mutex> lock) {
    if (is_waking || idle_count == 0 || queue.empty()) return;
    is_waking = true;
    lock.unlock();
    changed.notify_one();
  }

  void tell(RuntimeEvent event) {
    const std::lock_guard lock(mutex);
    tell_locked(std::move(event));
  }

  // With the mutex held.
  void tell_locked(RuntimeEvent event) {
    if (is_closing) return;
    events.push_back(std::move(event));
    if (events.size() == 1) wake.set();
  }
};

// One attempt; its reason is what stop() said.
struct ThreadAttempt : Task::State {
  ThreadAttempt(Assignment assignment, std::weak_ptr<ThreadShared> shared)
      : State(std::move(assignment.job), assignment.deadline_mono_ms), target(std::move(shared)) {}

  void tell(AttemptProgress progress) override {
    if (const auto shared = target.lock()) shared->tell(std::move(progress));
  }

  // The loop is told that there is something, and takes all that is there when it comes.
  void write_log(std::string_view bytes) override {
    {
      const std::lock_guard lock(log_mutex);
      const bool is_told = !log.empty();
      log.add(bytes);
      if (is_told) return;
    }
    if (const auto shared = target.lock()) shared->tell(AttemptLog{job.id, job.fence, {}});
  }

  [[nodiscard]] std::string take_log() {
    const std::lock_guard lock(log_mutex);
    return log.take(2 * LogBuffer::kBytesMax);
  }

  const std::weak_ptr<ThreadShared> target;
  std::mutex log_mutex;  // guards:
  LogBuffer log;
  std::mutex reason_mutex;  // guards:
  std::optional<StopReason> reason;
};

// Of this thread.
std::int64_t cpu_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000 + time.tv_nsec / 1'000;
}

// `told_us`: what this thread had used at the end of its job before. One reading a job: each is a
// system call, and what lies between two jobs is far below a millisecond.
AttemptResult run_one(const Handlers& handlers,
                      const std::shared_ptr<ThreadAttempt>& attempt,
                      std::int64_t& told_us) {
  const RunJob& job = attempt->job;
  Task task(attempt);
  const auto handler = handlers.find(job.task);
  AttemptResult result = to_result(
      job,
      handler == handlers.end()
          ? TaskOutcome::failed("task_not_offered", "this node has no handler for " + job.task)
          : call_handler(handler->second, task));
  const std::int64_t now_us = cpu_us();
  result.usage.cpu_ms = (now_us - std::exchange(told_us, now_us) + 500) / 1'000;
  std::optional<StopReason> reason;
  {
    const std::lock_guard lock(attempt->reason_mutex);
    reason = attempt->reason;
  }
  return reason ? after_stop(job, *reason, std::move(result)) : result;
}

void serve(const std::shared_ptr<ThreadShared>& shared) {
  std::int64_t told_us = cpu_us();
  std::unique_lock lock(shared->mutex);
  while (true) {
    ++shared->idle_count;
    while (!shared->is_closing && shared->queue.empty()) {
      shared->changed.wait(lock);
      shared->is_waking = false;  // also when somebody else took what it was woken for
    }
    --shared->idle_count;
    if (shared->is_closing) break;
    const auto attempt = std::move(shared->queue.front());
    shared->queue.pop_front();
    shared->wake_one(std::move(lock));
    AttemptResult result = run_one(shared->handlers, attempt, told_us);
    lock = std::unique_lock(shared->mutex);
    shared->tell_locked(AttemptDone{std::move(result)});
  }
  --shared->thread_count;
  shared->changed.notify_all();
}

void start_detached(std::function<void()> body) {
  std::thread(std::move(body)).detach();
}

class ThreadRuntime : public Runtime {
 public:
  ThreadRuntime(Handlers handlers, StartThread start_thread)
      : shared_(std::make_shared<ThreadShared>()), start_thread_(std::move(start_thread)) {
    shared_->handlers = std::move(handlers);
  }

  ~ThreadRuntime() override { (void)shut_down(); }

  void start(Assignment assignment) override {
    auto attempt = std::make_shared<ThreadAttempt>(std::move(assignment), shared_);
    running_[{attempt->job.id, attempt->job.fence}] = attempt;
    std::unique_lock lock(shared_->mutex);
    shared_->queue.push_back(std::move(attempt));
    if (shared_->idle_count >= shared_->queue.size()) {
      shared_->wake_one(std::move(lock));
      return;
    }
    const int error = add_thread();
    if (error == 0 || shared_->thread_count > 0) return;  // one of those will be free
    const auto unstarted = std::move(shared_->queue.back());
    shared_->queue.pop_back();
    lock.unlock();
    shared_->tell(AttemptDone{cannot_start(unstarted->job, error)});
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = running_.find({id, fence});
    if (it == running_.end()) return;
    {
      const std::lock_guard lock(it->second->reason_mutex);
      if (!it->second->reason || reason == StopReason::dropped) it->second->reason = reason;
    }
    it->second->ask_to_stop();
    if (take_unstarted(it->second))
      shared_->tell(
          AttemptDone{stopped_attempt(it->second->job, reason, "it waited for a free thread")});
  }

  void answer(const CheckpointAnswer& answer) override {
    const auto it = running_.find(answer.key);
    if (it != running_.end()) it->second->answer(answer.awaited_n, answer.is_recorded);
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
      if (auto* log = std::get_if<AttemptLog>(&event))
        if (const auto it = running_.find({log->id, log->fence}); it != running_.end())
          log->bytes = it->second->take_log();
      events.push_back(std::move(event));
    }
  }

  // Threads are detached, so that one handler that never returns cannot keep the node from leaving;
  // here they get two seconds to end.
  [[nodiscard]] bool shut_down() override {
    for (auto& [key, attempt] : running_)
      attempt->ask_to_stop();
    std::unique_lock lock(shared_->mutex);
    shared_->is_closing = true;
    shared_->changed.notify_all();
    return shared_->changed.wait_for(lock, std::chrono::seconds(2), [&] {
      return shared_->thread_count == 0;
    });
  }

 private:
  // Whether it was still waiting for a thread, and is not any more.
  [[nodiscard]] bool take_unstarted(const std::shared_ptr<ThreadAttempt>& attempt) {
    const std::lock_guard lock(shared_->mutex);
    return std::erase(shared_->queue, attempt) > 0;
  }

  // With the mutex held. 0, or the errno of a machine that has no thread to give.
  int add_thread() {
    ++shared_->thread_count;
    try {
      start_thread_([shared = shared_] { serve(shared); });
      return 0;
    } catch (const std::system_error& error) {
      --shared_->thread_count;
      return error.code().value();
    }
  }

  std::shared_ptr<ThreadShared> shared_;
  StartThread start_thread_;
  std::unordered_map<AttemptKey, std::shared_ptr<ThreadAttempt>> running_;
};

}  // namespace

ThreadRuntimeBuilder::ThreadRuntimeBuilder(const Handlers& handlers,
                                           StartThread start_thread,
                                           Handlers for_isolates)
    : handlers_(handlers),
      start_thread_(std::move(start_thread)),
      for_isolates_(std::move(for_isolates)) {
  if (!start_thread_) start_thread_ = start_detached;
}

Result<void> ThreadRuntimeBuilder::add(TaskSettings& settings) {
  const auto handler = take_handler(settings, handlers_, for_isolates_);
  if (!handler) return tl::unexpected(handler.error());
  by_task_[settings.task()] = handlers_.at(*handler);
  return {};
}

std::unique_ptr<Runtime> ThreadRuntimeBuilder::build() {
  return std::make_unique<ThreadRuntime>(std::move(by_task_), start_thread_);
}

}  // namespace sluice
