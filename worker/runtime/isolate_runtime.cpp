#include "worker/runtime/isolate_runtime.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <deque>
#include <optional>
#include <set>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "common/protocol/codec.h"
#include "worker/runtime/isolate_process.h"
#include "worker/runtime/isolate_wire.h"
#include "worker/runtime/life.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

struct IsolatePool;

struct Isolate {
  std::uint64_t number = 0;  // ours, for the spawner and for epoll
  IsolatePool* pool = nullptr;
  UniqueFd jobs;  // closed when it is asked to leave
  UniqueFd stops;
  FrameReader reader;
  std::string unsent;  // of its job's frame
  std::uint32_t job_count = 0;
  bool is_silent = false;        // its stream ended or makes no sense: it can say nothing more
  bool is_gone = false;          // the spawner said so
  bool is_killed = false;        // because of that, or because a stop was not heeded
  std::int64_t due_ms = kNever;  // its place among the timers
  // Its attempt; the job is without its payload.
  std::optional<RunJob> job;
  std::optional<StopReason> reason;
  std::int64_t given_ms = 0;
  // Ended, and told when the process is gone.
  std::optional<AttemptResult> result;
};

struct IsolatePool {
  IsolateTask settings;
  std::size_t total = 0;       // without those that are leaving
  std::vector<Isolate*> idle;  // the last one used is the next one used
  std::deque<Assignment> waiting;
  std::uint64_t job_count = 0;
  std::uint64_t crash_count = 0;
  std::uint64_t recycle_count = 0;
  std::int64_t busy_ms = 0;
};

class IsolateRuntime : public Runtime {
 public:
  IsolateRuntime(const std::map<std::string, IsolateTask, std::less<>>& tasks,
                 SpawnerChannel& spawner,
                 std::string node)
      : spawner_(spawner), node_(std::move(node)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_.is_open()) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    watch(spawner_.fd(), kSpawnerTag, EPOLLIN, EPOLL_CTL_ADD);
    for (const auto& [task, settings] : tasks) {
      IsolatePool& pool = pools_[task];
      pool.settings = settings;
      fill(pool);
    }
  }

  void start(Assignment assignment) override {
    const auto pool = pools_.find(assignment.job.task);
    if (is_broken_ || pool == pools_.end())
      return tell(failed_attempt(assignment.job,
                                 "task_not_offered",
                                 "no isolate for " + assignment.job.task,
                                 true));
    pool->second.waiting.push_back(std::move(assignment));
    serve(pool->second);
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = numbers_.find({id, fence});
    if (it != numbers_.end()) return stop(isolates_.at(it->second), reason);
    for (auto& [task, pool] : pools_) {
      const auto waiting = std::ranges::find_if(pool.waiting, [&](const Assignment& assignment) {
        return assignment.job.id == id && assignment.job.fence == fence;
      });
      if (waiting == pool.waiting.end()) continue;
      tell(stopped_attempt(waiting->job, reason, "it waited for an isolate"));
      pool.waiting.erase(waiting);
      return;
    }
  }

  [[nodiscard]] int fd() const override { return epoll_.get(); }

  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override {
    if (!events_.empty()) return 0;
    return timers_.empty() ? kNever : timers_.begin()->first;
  }

  void poll(Now now, std::vector<RuntimeEvent>& events) override {
    std::array<epoll_event, 64> ready{};
    const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), 0);
    for (int i = 0; i < count; ++i) {
      const epoll_event& item = ready[static_cast<std::size_t>(i)];
      if (item.data.u64 == kSpawnerTag)
        on_spawner();
      else if (const auto it = isolates_.find(item.data.u64); it != isolates_.end())
        on_ready(it->second, item.events);
    }
    fire(now);
    watch_backlog();
    for (RuntimeEvent& event : std::exchange(events_, {}))
      events.push_back(std::move(event));
  }

  [[nodiscard]] std::vector<IsolateFigures> figures() const override {
    std::vector<IsolateFigures> all;
    for (const auto& [task, pool] : pools_) {
      IsolateFigures& figures = all.emplace_back();
      figures.task = task;
      figures.total = static_cast<std::uint32_t>(pool.total);
      figures.busy = static_cast<std::uint32_t>(pool.total - pool.idle.size());
      figures.waiting = static_cast<std::uint32_t>(pool.waiting.size());
      figures.jobs = pool.job_count;
      figures.crashes = pool.crash_count;
      figures.recycles = pool.recycle_count;
      figures.busy_ms = pool.busy_ms;
    }
    return all;
  }

  [[nodiscard]] bool shut_down() override {
    spawner_.close();
    return true;
  }

 private:
  static constexpr std::uint64_t kSpawnerTag = 0;       // in epoll; others are numbers of isolates
  static constexpr std::int64_t kLeaveGraceMs = 2'000;  // between the end of a stream and SIGKILL
  static constexpr int kReadsPerTurn = 16;  // a handler that talks must not starve the others

  // ---------------------------------------------------------------- the pool

  // Up to the minimum.
  void fill(IsolatePool& pool) {
    while (pool.total < pool.settings.isolates_min && fork_one(pool) == 0) {
    }
  }

  // Gives what waits to whoever is free, and makes more of them while it may.
  void serve(IsolatePool& pool) {
    while (!is_broken_ && !pool.waiting.empty()) {
      const std::uint32_t most = pool.settings.isolates_max;
      if (pool.idle.empty()) {
        if (most != 0 && pool.total >= most) return;
        if (const int error = fork_one(pool); error != 0) {
          if (pool.total > 0) return;  // one of those will be free
          tell(cannot_start(pool.waiting.front().job, error));
          pool.waiting.pop_front();
          continue;
        }
      }
      Isolate& isolate = *pool.idle.back();
      pool.idle.pop_back();
      Assignment assignment = std::move(pool.waiting.front());
      pool.waiting.pop_front();
      give(isolate, std::move(assignment));
    }
  }

  // 0, or an errno. The new one is idle at once: its socket keeps what is sent until it reads.
  int fork_one(IsolatePool& pool) {
    std::array<int, 2> jobs{-1, -1};
    std::array<int, 2> stops{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, jobs.data()) != 0) return errno;
    const UniqueFd far_jobs(jobs[1]);
    UniqueFd near_jobs(jobs[0]);
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stops.data()) != 0) return errno;
    const UniqueFd far_stops(stops[1]);
    UniqueFd near_stops(stops[0]);
    for (const UniqueFd* near : {&near_jobs, &near_stops})
      ::fcntl(near->get(), F_SETFL, O_NONBLOCK);
    const std::uint64_t number = ++last_number_;
    const int error = spawner_.isolate(number, far_jobs.get(), far_stops.get());
    if (error != 0) return error;
    Isolate& isolate = isolates_[number];
    isolate.number = number;
    isolate.pool = &pool;
    isolate.jobs = std::move(near_jobs);
    isolate.stops = std::move(near_stops);
    ++pool.total;
    watch(isolate.jobs.get(), number, EPOLLIN, EPOLL_CTL_ADD);
    watch_backlog();
    rest(isolate);
    return 0;
  }

  void rest(Isolate& isolate) {
    isolate.pool->idle.push_back(&isolate);
    arm(isolate, after(clock_now().mono_ms, isolate.pool->settings.idle_ms));
  }

  // Asks it to leave: it finds its sockets closed. Its end is reported by the spawner.
  void retire(Isolate& isolate) {
    std::erase(isolate.pool->idle, &isolate);
    isolate.jobs.reset();
    isolate.stops.reset();
    --isolate.pool->total;
    arm(isolate, after(clock_now().mono_ms, kLeaveGraceMs));
  }

  [[nodiscard]] bool is_worn(const Isolate& isolate, const Usage& usage) const {
    const IsolateTask& settings = isolate.pool->settings;
    return (settings.jobs_max > 0 && isolate.job_count >= settings.jobs_max) ||
           (settings.memory_max_bytes > 0 && usage.rss_bytes_max > settings.memory_max_bytes);
  }

  // ---------------------------------------------------------------- one attempt

  void give(Isolate& isolate, Assignment assignment) {
    const std::int64_t now_ms = clock_now().mono_ms;
    const IsolateTask& settings = isolate.pool->settings;
    const std::int64_t own_deadline =
        settings.timeout_ms > 0 ? after(now_ms, settings.timeout_ms) : kNever;
    RunJob& job = assignment.job;
    const std::int64_t asked_ms = job.timeout_ms;
    const std::int64_t deadline = std::min(own_deadline, assignment.deadline_mono_ms);
    if (deadline != kNever) job.timeout_ms = std::max<std::int64_t>(deadline - now_ms, 1);
    const std::uint64_t number = isolate.number;
    BrokerMessage message{{job.fence.epoch, ++isolate.job_count}, Run{}};
    std::get<Run>(message.body).jobs.push_back(std::move(job));
    isolate.unsent = isolate_frame(encode_broker_message(message));
    isolate.job = std::move(std::get<Run>(message.body).jobs.front());
    isolate.job->payload.clear();
    isolate.job->timeout_ms = asked_ms;
    isolate.given_ms = now_ms;
    numbers_[{isolate.job->id, isolate.job->fence}] = number;
    arm(isolate, own_deadline);
    write_job(isolate);
  }

  // What does not fit into the socket goes when there is room. A broken socket is told by reading.
  void write_job(Isolate& isolate) {
    while (!isolate.unsent.empty()) {
      const ssize_t size = ::send(isolate.jobs.get(),
                                  isolate.unsent.data(),
                                  isolate.unsent.size(),
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN)
        return watch(isolate.jobs.get(), isolate.number, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      if (size < 0) isolate.unsent.clear();
      if (size > 0) isolate.unsent.erase(0, static_cast<std::size_t>(size));
    }
  }

  void stop(Isolate& isolate, StopReason reason) {
    if (isolate.reason) {
      if (reason == StopReason::dropped) isolate.reason = reason;
      return;
    }
    isolate.reason = reason;
    const IsolateStop stop{isolate.job_count};
    (void)::send(isolate.stops.get(), &stop, sizeof stop, MSG_NOSIGNAL | MSG_DONTWAIT);
    arm(isolate, after(clock_now().mono_ms, isolate.pool->settings.grace_ms));
  }

  void on_ready(Isolate& isolate, std::uint32_t what) {
    if ((what & EPOLLOUT) != 0) {
      watch(isolate.jobs.get(), isolate.number, EPOLLIN, EPOLL_CTL_MOD);
      write_job(isolate);
    }
    read(isolate, kReadsPerTurn);
  }

  // What it has to say.
  void read(Isolate& isolate, int reads_max) {
    for (int reads = 0; isolate.jobs.is_open() && !isolate.is_silent && reads < reads_max;
         ++reads) {
      const FrameReader::Fill fill = isolate.reader.fill(isolate.jobs.get());
      if (fill == FrameReader::Fill::none) return;
      if (fill == FrameReader::Fill::end) return fall_silent(isolate);
      while (isolate.jobs.is_open()) {
        const auto message = isolate.reader.next();
        if (!message && !isolate.reader.is_broken()) break;
        if (message && take(isolate, *message)) continue;
        fall_silent(isolate);
        return kill(isolate);
      }
    }
  }

  // At the end of a stream it is dead mostly, and the spawner is about to say how it died; if not,
  // it is killed by the timer.
  void fall_silent(Isolate& isolate) {
    isolate.is_silent = true;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, isolate.jobs.get(), nullptr);
    std::erase(isolate.pool->idle, &isolate);
    if (!isolate.reason) arm(isolate, after(clock_now().mono_ms, kLeaveGraceMs));
  }

  // False when an isolate does not speak like this.
  bool take(Isolate& isolate, std::string_view message) {
    auto read = decode_worker_message(message);
    if (!read) return false;
    if (auto* progress = std::get_if<Progress>(&*read)) {
      // A thread that its handler left behind may speak of an attempt that is over.
      if (isolate.job && isolate.job->id == progress->id && isolate.job->fence == progress->fence)
        events_.emplace_back(AttemptProgress{std::move(progress->id),
                                             progress->fence,
                                             progress->percent,
                                             std::move(progress->message),
                                             std::move(progress->checkpoint)});
      return true;
    }
    auto* results = std::get_if<Results>(&*read);
    if (results == nullptr || results->results.size() != 1 || !isolate.job) return false;
    AttemptResult& result = results->results.front();
    if (result.id != isolate.job->id || result.fence != isolate.job->fence) return false;
    finish(isolate, std::move(result));
    return true;
  }

  void finish(Isolate& isolate, AttemptResult result) {
    const Usage usage = result.usage;
    if (isolate.reason) result = after_stop(*isolate.job, *isolate.reason, std::move(result));
    result.usage = usage;
    numbers_.erase({result.id, result.fence});
    isolate.job.reset();
    isolate.reason.reset();
    IsolatePool& pool = *isolate.pool;
    ++pool.job_count;
    pool.busy_ms += clock_now().mono_ms - isolate.given_ms;
    if (isolate.is_gone) return tell(std::move(result));
    if (is_worn(isolate, usage)) {
      ++pool.recycle_count;
      isolate.result = std::move(result);
      retire(isolate);
      fill(pool);
    } else {
      tell(std::move(result));
      rest(isolate);
    }
    serve(pool);
  }

  // ---------------------------------------------------------------- ends and timers

  void kill(Isolate& isolate) {
    isolate.is_killed = true;
    spawner_.kill(isolate.number);
    watch_backlog();
  }

  void fire(Now now) {
    while (!timers_.empty() && timers_.begin()->first <= now.mono_ms)
      fire(isolates_.at(timers_.begin()->second));
  }

  void fire(Isolate& isolate) {
    arm(isolate, kNever);
    if (isolate.is_silent || isolate.reason || !isolate.jobs.is_open())
      kill(isolate);
    else if (isolate.job)
      stop(isolate, StopReason::timed_out);
    else if (isolate.pool->total > isolate.pool->settings.isolates_min)
      retire(isolate);
  }

  void on_spawner() {
    spawner_.flush();
    reports_.clear();
    const bool is_alive = spawner_.read(reports_);
    for (const SpawnReport& report : reports_) {
      const auto it = isolates_.find(report.id);
      if (it != isolates_.end()) on_end(it->second, report);
    }
    if (!is_alive) give_up();
  }

  // Nothing of it is left. What it said last may still stand in its socket.
  void on_end(Isolate& isolate, const SpawnReport& report) {
    isolate.is_gone = true;
    read(isolate, INT_MAX);
    IsolatePool& pool = *isolate.pool;
    const bool was_used = isolate.job_count > 0;
    if (isolate.result) tell(std::move(*isolate.result));
    if (isolate.job) {
      numbers_.erase({isolate.job->id, isolate.job->fence});
      AttemptResult result = judge_end(isolate, report);
      result.usage = {report.cpu_ms, report.rss_bytes_max};
      tell(std::move(result));
    }
    if (isolate.jobs.is_open()) {
      --pool.total;
      ++pool.crash_count;
    }
    std::erase(pool.idle, &isolate);
    arm(isolate, kNever);
    isolates_.erase(isolate.number);
    if (is_broken_) return;
    if (was_used) fill(pool);
    serve(pool);
  }

  static AttemptResult judge_end(const Isolate& isolate, const SpawnReport& report) {
    const RunJob& job = *isolate.job;
    if (isolate.reason) return stopped_attempt(job, *isolate.reason);
    if (report.is_spawner_lost != 0) return stopped_attempt(job, StopReason::hand_back);
    if (report.exec_errno != 0) return cannot_start(job, report.exec_errno);
    if (isolate.is_killed)
      return failed_attempt(job,
                            "isolate_broken",
                            "isolate killed: its handler closed or spoiled its socket",
                            true);
    if (WIFSIGNALED(report.wait_status)) {
      const int signal = WTERMSIG(report.wait_status);
      return failed_attempt(job,
                            "isolate_crashed",
                            "isolate crashed: " + signal_name(signal) +
                                (signal == SIGKILL ? ", from outside or for want of memory" : ""),
                            true);
    }
    return failed_attempt(
        job,
        "isolate_crashed",
        "isolate exited with code " + std::to_string(WEXITSTATUS(report.wait_status)),
        true);
  }

  // The spawner is gone, and its isolates with it; what they had started is swept by its marks.
  void give_up() {
    if (std::exchange(is_broken_, true)) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, spawner_.fd(), nullptr);
    sweep_processes(node_);
    SpawnReport lost;
    lost.is_spawner_lost = 1;
    while (!isolates_.empty())
      on_end(isolates_.begin()->second, lost);
    for (auto& [task, pool] : pools_) {
      for (const Assignment& assignment : std::exchange(pool.waiting, {}))
        tell(stopped_attempt(assignment.job, StopReason::hand_back));
    }
    events_.emplace_back(RuntimeFailed{"the spawner died"});
  }

  void tell(AttemptResult result) { events_.emplace_back(AttemptDone{std::move(result)}); }

  void arm(Isolate& isolate, std::int64_t due_ms) {
    if (isolate.due_ms != kNever) timers_.erase({isolate.due_ms, isolate.number});
    isolate.due_ms = due_ms;
    if (due_ms != kNever) timers_.emplace(due_ms, isolate.number);
  }

  void watch_backlog() {
    if (is_broken_ ||
        std::exchange(is_backlog_watched_, spawner_.has_backlog()) == spawner_.has_backlog())
      return;
    watch(spawner_.fd(),
          kSpawnerTag,
          spawner_.has_backlog() ? EPOLLIN | EPOLLOUT : EPOLLIN,
          EPOLL_CTL_MOD);
  }

  void watch(int fd, std::uint64_t tag, std::uint32_t what, int operation) const {
    epoll_event event{};
    event.events = what;
    event.data.u64 = tag;
    ::epoll_ctl(epoll_.get(), operation, fd, &event);
  }

  SpawnerChannel& spawner_;
  std::string node_;
  UniqueFd epoll_;
  std::map<std::string, IsolatePool, std::less<>> pools_;
  std::map<std::uint64_t, Isolate> isolates_;
  std::unordered_map<AttemptKey, std::uint64_t> numbers_;  // of those at work
  std::set<std::pair<std::int64_t, std::uint64_t>> timers_;
  std::uint64_t last_number_ = 0;
  std::vector<RuntimeEvent> events_;
  std::vector<SpawnReport> reports_;
  bool is_backlog_watched_ = false;
  bool is_broken_ = false;
};

// ---------------------------------------------------------------- settings

Result<void> take_size(TaskSettings& settings, IsolateTask& task) {
  const auto least = settings.take_integer("isolates_min", 0, kConcurrencyMax);
  if (!least) return tl::unexpected(least.error());
  const auto most = settings.take_integer("isolates_max", 0, kConcurrencyMax);
  if (!most) return tl::unexpected(most.error());
  task.isolates_max = static_cast<std::uint32_t>(most->value_or(0));
  task.isolates_min = static_cast<std::uint32_t>(least->value_or(1));
  if (task.isolates_max != 0 && task.isolates_min > task.isolates_max)
    return tl::unexpected(settings.error("isolates_min", "is greater than isolates_max"));
  const auto idle = settings.take_duration_ms("idle");
  if (!idle) return tl::unexpected(idle.error());
  task.idle_ms = idle->value_or(task.idle_ms);
  return {};
}

Result<void> take_wear(TaskSettings& settings, IsolateTask& task) {
  const auto reuse = settings.take_bool("reuse");
  if (!reuse) return tl::unexpected(reuse.error());
  const auto jobs = settings.take_integer("recycle_after", 0, UINT32_MAX);
  if (!jobs) return tl::unexpected(jobs.error());
  if (*reuse && !**reuse && *jobs)
    return tl::unexpected(settings.error("recycle_after", "says nothing with reuse = false"));
  task.jobs_max = reuse->value_or(true) ? static_cast<std::uint32_t>(jobs->value_or(0)) : 1;
  const auto memory = settings.take_bytes("recycle_memory");
  if (!memory) return tl::unexpected(memory.error());
  task.memory_max_bytes = memory->value_or(0);
  return {};
}

}  // namespace

Result<void> IsolateRuntimeBuilder::add(TaskSettings& settings) {
  IsolateTask task;
  auto handler = take_handler(settings, handlers_);
  if (!handler) return tl::unexpected(handler.error());
  if (auto taken = take_size(settings, task); !taken) return taken;
  if (auto taken = take_wear(settings, task); !taken) return taken;
  const auto timeout = settings.take_duration_ms("timeout");
  if (!timeout) return tl::unexpected(timeout.error());
  task.timeout_ms = timeout->value_or(0);
  const auto grace = settings.take_duration_ms("grace");
  if (!grace) return tl::unexpected(grace.error());
  task.grace_ms = grace->value_or(task.grace_ms);
  by_task_[settings.task()] = std::move(*handler);
  tasks_[settings.task()] = task;
  return {};
}

// The spawner's copy of the handlers and of the node's id is what its isolates have.
void IsolateRuntimeBuilder::prepare(const std::string& node, Spawner& spawner) {
  node_ = node;
  spawner_ = &spawner.open_channel();
  spawner.set_isolate_main([handlers = by_task_, node](int jobs_fd, int stops_fd) {
    run_isolate(jobs_fd, stops_fd, handlers, node);
  });
}

std::unique_ptr<Runtime> IsolateRuntimeBuilder::build() {
  return std::make_unique<IsolateRuntime>(tasks_, *spawner_, node_);
}

}  // namespace sluice
