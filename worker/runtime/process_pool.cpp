#include "worker/runtime/process_pool.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <span>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "worker/core/text.h"
#include "worker/runtime/handler_call.h"
#include "worker/runtime/life.h"
#include "worker/runtime/log_line.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

// From one that could not be made, or ended without a job, to the next try at the minimum; twice as
// long each time.
constexpr std::int64_t kRefillPauseMs = 1'000;
constexpr std::int64_t kRefillPauseMsMax = 60'000;

struct MemberPool;

struct Member {
  std::uint64_t number = 0;  // ours, for the spawner and for epoll
  MemberPool* pool = nullptr;
  std::unique_ptr<PoolWire> wire;  // gone when it is asked to leave
  std::string unsent;              // of its job, and of a stop
  std::uint32_t job_count = 0;
  std::int64_t told_cpu_ms = 0;    // by its results so far
  std::int64_t rss_bytes_max = 0;  // of its jobs so far
  bool is_silent = false;          // its stream ended or makes no sense: it can say nothing more
  std::optional<SpawnReport> end;  // it is gone; what it said may not have been read yet
  int turns_after_end = 0;
  bool has_unread = false;       // it left without having read all that it was given
  std::string spoiled;           // what makes no sense, or that it said nothing more and lived on
  std::int64_t due_ms = kNever;  // its place among the timers
  // Its attempt; the job is without its payload.
  std::optional<RunJob> job;
  std::optional<StopReason> reason;
  std::optional<AttemptProgress> progress;  // of this turn
  std::int64_t given_ms = 0;
  // Ended, and told when the process is gone.
  std::optional<AttemptResult> result;
};

struct MemberPool {
  std::string task;
  PoolSettings settings;
  std::unique_ptr<PoolKind> kind;
  std::size_t total = 0;      // without those that are leaving
  std::vector<Member*> idle;  // the last one used is the next one used
  std::deque<Assignment> waiting;
  std::int64_t refill_ms = kNever;  // when the minimum is tried again
  std::int64_t refill_pause_ms = 0;
  std::uint64_t job_count = 0;
  std::uint64_t crash_count = 0;
  std::uint64_t recycle_count = 0;
  std::int64_t busy_ms = 0;
};

class PoolRuntime : public Runtime {
 public:
  PoolRuntime(std::map<std::string, PoolSetup, std::less<>> pools,
              SpawnerChannel& spawner,
              std::string node)
      : spawner_(spawner), node_(std::move(node)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_.is_open()) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    watch(spawner_.fd(), kSpawnerTag, EPOLLIN, EPOLL_CTL_ADD);
    for (auto& [task, given] : pools) {
      MemberPool& pool = pools_[task];
      pool.task = task;
      pool.settings = given.settings;
      pool.kind = std::move(given.kind);
      fill(pool);
    }
  }

  void start(Assignment assignment) override {
    const auto pool = pools_.find(assignment.job.task);
    if (is_broken_ || pool == pools_.end())
      return tell(failed_attempt(assignment.job,
                                 "task_not_offered",
                                 "nothing runs " + assignment.job.task + " here",
                                 true));
    pool->second.waiting.push_back(std::move(assignment));
    serve(pool->second);
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = numbers_.find({id, fence});
    if (it != numbers_.end()) return stop(members_.at(it->second), reason);
    for (auto& [task, pool] : pools_) {
      const auto waiting = std::ranges::find_if(pool.waiting, [&](const Assignment& assignment) {
        return assignment.job.id == id && assignment.job.fence == fence;
      });
      if (waiting == pool.waiting.end()) continue;
      tell(stopped_attempt(waiting->job, reason, "it waited for a free process"));
      pool.waiting.erase(waiting);
      return;
    }
  }

  void answer(const CheckpointAnswer& answer) override {
    const auto it = numbers_.find(answer.key);
    if (it == numbers_.end()) return;
    const Member& member = members_.at(it->second);
    if (member.wire) member.wire->answer(member.job_count, answer);
  }

  [[nodiscard]] int fd() const override { return epoll_.get(); }

  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override {
    if (!events_.empty() || !talking_.empty()) return 0;
    std::int64_t next = timers_.empty() ? kNever : timers_.begin()->first;
    for (const auto& [task, pool] : pools_)
      next = std::min(next, pool.refill_ms);
    return next;
  }

  void poll(Now now, std::vector<RuntimeEvent>& events) override {
    std::array<epoll_event, 64> ready{};
    const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), 0);
    const std::span items(ready.data(), static_cast<std::size_t>(std::max(count, 0)));
    const auto is_spawner = [](const epoll_event& item) {
      return item.data.u64 == kSpawnerTag;
    };
    // First who has begun, then what those say.
    if (std::ranges::any_of(items, is_spawner)) on_spawner();
    is_every_error_read_ = items.size() < ready.size();
    for (const epoll_event& item : items)
      if (Member* member = member_of(item, kErrorsBit)) read_errors(*member);
    const std::unordered_set<std::uint64_t> talking = std::exchange(talking_, {});
    for (const std::uint64_t number : talking)
      if (const auto it = members_.find(number); it != members_.end()) go_on(it->second);
    for (const epoll_event& item : items)
      if (Member* member = member_of(item, 0); member != nullptr && member->wire) {
        if ((item.events & EPOLLOUT) != 0) on_room(*member);
        if (!talking.contains(member->number)) go_on(*member);
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

  void end_idle() override { spawner_.close_idle(); }

  [[nodiscard]] bool shut_down() override {
    spawner_.close();
    return true;
  }

 private:
  static constexpr std::uint64_t kSpawnerTag = 0;  // in epoll; others are numbers of members,
  static constexpr std::uint64_t kErrorsBit = 1ULL << 63;  // with this of its standard error
  static constexpr std::int64_t kLeaveGraceMs = 2'000;     // from the end of a stream to SIGKILL
  static constexpr std::size_t kSparedMax = 1'000;
  static constexpr std::size_t kShownOfOutputBytes = 200;
  // One that talks must not starve the others, nor keep time-outs waiting.
  static constexpr int kReadsPerTurn = 4;
  static constexpr int kWordsPerTurn = 64;
  // More than a socket holds: who talks on is somebody else, to whom its stream was handed.
  static constexpr int kTurnsAfterEnd = 1'000;

  Member* member_of(const epoll_event& item, std::uint64_t bit) {
    const auto it = members_.find(item.data.u64 ^ bit);
    return it == members_.end() ? nullptr : &it->second;
  }

  // ---------------------------------------------------------------- the pool

  // Up to the minimum.
  void fill(MemberPool& pool) {
    pool.refill_ms = kNever;
    while (pool.total < pool.settings.processes_min)
      if (const int error = start_one(pool); error != 0)
        return fill_later(pool, std::strerror(error));
  }

  // In the place of one that ended. What cannot live must not be made over and over: at once after
  // one that had a job, and once after one that had none.
  void fill_again(MemberPool& pool, const SpawnReport& ended) {
    if (pool.total >= pool.settings.processes_min) return;
    if (pool.refill_pause_ms > 0)
      return fill_later(pool, how_it_ended(ended) + " before it had a job");
    pool.refill_pause_ms = kRefillPauseMs;
    fill(pool);
  }

  void fill_later(MemberPool& pool, const std::string& reason) {
    pool.refill_pause_ms = std::max(pool.refill_pause_ms, kRefillPauseMs);
    pool.refill_ms = after(clock_now().mono_ms, pool.refill_pause_ms);
    log_line(LogLevel::warn,
             "processes_lacking",
             {{"task", pool.task},
              {"total", std::to_string(pool.total)},
              {"wanted", std::to_string(pool.settings.processes_min)},
              {"reason", reason},
              {"again_in_ms", std::to_string(pool.refill_pause_ms)},
              {"what_next",
               "mend that, what it wrote is told as output_between_jobs; it is tried again by "
               "itself, and whenever a job comes"}});
    pool.refill_pause_ms = std::min(2 * pool.refill_pause_ms, kRefillPauseMsMax);
  }

  // Gives what waits to whoever is free, and makes more of them while it may.
  void serve(MemberPool& pool) {
    while (!is_broken_ && !pool.waiting.empty()) {
      const std::uint32_t most = pool.settings.processes_max;
      if (pool.idle.empty()) {
        if (most != 0 && pool.total >= most) return;
        if (const int error = start_one(pool); error != 0) {
          if (pool.total > 0) return;  // one of those will be free
          tell(cannot_start(pool.waiting.front().job, error));
          pool.waiting.pop_front();
          continue;
        }
      }
      if (is_spared(pool.waiting.front().job.id)) prefer_fresh(pool);
      if (pool.idle.empty()) continue;
      Member& member = *pool.idle.back();
      pool.idle.pop_back();
      Assignment assignment = std::move(pool.waiting.front());
      pool.waiting.pop_front();
      give(member, std::move(assignment));
    }
  }

  // For a job that one has not read before it left: another may be about to leave as well. Puts one
  // that had no job yet in front, or makes one in the place of another; a used one does if it
  // cannot.
  void prefer_fresh(MemberPool& pool) {
    const auto fresh =
        std::ranges::find(pool.idle, 0U, [](const Member* member) { return member->job_count; });
    if (fresh != pool.idle.end()) {
      std::iter_swap(fresh, pool.idle.end() - 1);
      return;
    }
    Member& used = *pool.idle.back();
    if (start_one(pool) == 0) retire(used);
  }

  // 0, or an errno. The new one is idle at once: its stream keeps what is sent until it reads.
  int start_one(MemberPool& pool) {
    const std::uint64_t number = ++last_number_;
    auto wire = pool.kind->start(spawner_, number);
    if (!wire) return wire.error();
    Member& member = members_[number];
    member.number = number;
    member.pool = &pool;
    member.wire = std::move(*wire);
    ++pool.total;
    watch(member.wire->fd(), number, EPOLLIN, EPOLL_CTL_ADD);
    watch(member.wire->errors().fd(), number | kErrorsBit, EPOLLIN, EPOLL_CTL_ADD);
    watch_backlog();
    rest(member);
    return 0;
  }

  void rest(Member& member) {
    member.pool->idle.push_back(&member);
    arm(member, after(clock_now().mono_ms, member.pool->settings.idle_ms));
  }

  // Asks it to leave: it finds its stream closed. Its end is reported by the spawner.
  void retire(Member& member) {
    std::erase(member.pool->idle, &member);
    member.wire.reset();
    --member.pool->total;
    arm(member, after(clock_now().mono_ms, kLeaveGraceMs));
  }

  [[nodiscard]] static bool is_worn(const Member& member) {
    const PoolSettings& settings = member.pool->settings;
    return (settings.jobs_max > 0 && member.job_count >= settings.jobs_max) ||
           (settings.memory_max_bytes > 0 && member.rss_bytes_max > settings.memory_max_bytes);
  }

  // ---------------------------------------------------------------- one attempt

  void give(Member& member, Assignment assignment) {
    const std::int64_t now_ms = clock_now().mono_ms;
    const PoolSettings& settings = member.pool->settings;
    const std::int64_t own_deadline =
        settings.timeout_ms > 0 ? after(now_ms, settings.timeout_ms) : kNever;
    RunJob& job = assignment.job;
    member.wire->errors().begin();
    const std::int64_t asked_ms = job.timeout_ms;
    const std::int64_t deadline = std::min(own_deadline, assignment.deadline_mono_ms);
    if (deadline != kNever) job.timeout_ms = std::max<std::int64_t>(deadline - now_ms, 1);
    member.unsent += member.wire->give(job, ++member.job_count);
    member.job = std::move(job);
    member.job->payload.clear();
    member.job->timeout_ms = asked_ms;
    member.given_ms = now_ms;
    numbers_[{member.job->id, member.job->fence}] = member.number;
    arm(member, own_deadline);
    write(member);
  }

  // What does not fit into the socket goes when there is room. A broken socket is told by reading.
  void write(Member& member) {
    while (!member.unsent.empty()) {
      const ssize_t size = ::send(member.wire->fd(),
                                  member.unsent.data(),
                                  member.unsent.size(),
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN)
        return watch(member.wire->fd(), member.number, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      if (size < 0) {
        member.unsent.clear();
        member.has_unread = true;
      }
      if (size > 0) member.unsent.erase(0, static_cast<std::size_t>(size));
    }
  }

  void stop(Member& member, StopReason reason) {
    if (member.reason) {
      if (reason == StopReason::dropped) member.reason = reason;
      return;
    }
    member.reason = reason;
    if (member.end) return;  // it is only heard to the end
    member.unsent += member.wire->stop(member.job_count);
    if (!member.is_silent) write(member);
    arm(member, after(clock_now().mono_ms, member.pool->settings.grace_ms));
  }

  void on_room(Member& member) {
    watch(member.wire->fd(), member.number, EPOLLIN, EPOLL_CTL_MOD);
    write(member);
  }

  // Reads on, a little; of one that is gone to the end.
  void go_on(Member& member) {
    const bool is_all = read(member, kReadsPerTurn, kWordsPerTurn);
    if (member.end && (is_all || ++member.turns_after_end >= kTurnsAfterEnd)) return settle(member);
    if (!is_all) talking_.insert(member.number);  // of what is read already epoll knows nothing
  }

  // What it writes there while it has a job is part of the job's log.
  void read_errors(Member& member) {
    if (!member.wire) return;
    std::string bytes = member.wire->errors().read();
    if (bytes.empty()) return;
    if (member.job)
      events_.emplace_back(AttemptLog{member.job->id, member.job->fence, std::move(bytes)});
    else
      log_line(LogLevel::info,
               "output_between_jobs",
               {{"task", member.pool->task}, {"text", clean_text(bytes, kShownOfOutputBytes)}});
  }

  // What it has to say. What it wrote to its standard error before the first word was at hand when
  // this turn began, and is read; before a later one it may have written more.
  // Whether that was all.
  bool read(Member& member, int reads_left, int words_left) {
    bool is_error_read = is_every_error_read_;
    bool is_all = false;
    while (!is_all && reads_left > 0 && words_left > 0) {
      is_all = !member.wire || member.is_silent;
      if (is_all) break;
      auto word = member.wire->next();
      if (word && !*word) {
        --reads_left;
        is_all = !fill(member);
        continue;
      }
      --words_left;
      if (!std::exchange(is_error_read, false)) read_errors(member);
      std::string wrong = word ? take(member, std::move(**word)) : word.error().detail;
      if (wrong.empty()) continue;
      fall_silent(member);
      kill(member, std::move(wrong));
    }
    tell_progress(member);
    return is_all;
  }

  // Whether it has said more.
  bool fill(Member& member) {
    const PoolWire::Fill fill = member.wire->fill();
    if (fill == PoolWire::Fill::none) return false;
    if (fill == PoolWire::Fill::unread) member.has_unread = true;
    if (fill != PoolWire::Fill::some) fall_silent(member);
    return fill == PoolWire::Fill::some;
  }

  // Of one turn the newest is told, with the newest checkpoint: lines are cheaper to write than to
  // carry on. A checkpoint that is waited for stands for itself.
  void keep_newest(Member& member, AttemptProgress progress) {
    std::optional<AttemptProgress>& kept = member.progress;
    if (kept && (kept->awaited_n != 0 || progress.awaited_n != 0)) tell_progress(member);
    if (kept && !progress.checkpoint) progress.checkpoint = std::move(kept->checkpoint);
    kept = std::move(progress);
  }

  void tell_progress(Member& member) {
    if (member.progress) events_.emplace_back(*std::exchange(member.progress, std::nullopt));
  }

  // At the end of a stream it is dead mostly, and the spawner is about to say how it died; if not,
  // it is killed by the timer.
  void fall_silent(Member& member) {
    member.is_silent = true;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, member.wire->fd(), nullptr);
    std::erase(member.pool->idle, &member);
    if (!member.reason) arm(member, after(clock_now().mono_ms, kLeaveGraceMs));
  }

  // What is wrong with it, or nothing.
  std::string take(Member& member, PoolWord word) {
    if (auto* progress = std::get_if<AttemptProgress>(&word)) {
      // A thread that its handler left behind may speak of an attempt that is over.
      if (member.job && member.job->id == progress->id && member.job->fence == progress->fence)
        keep_newest(member, std::move(*progress));
      return {};
    }
    if (auto* log = std::get_if<AttemptLog>(&word)) {
      if (member.job && member.job->id == log->id && member.job->fence == log->fence)
        events_.emplace_back(std::move(*log));
      return {};
    }
    AttemptResult& result = std::get<AttemptResult>(word);
    const bool is_its_own =
        member.job && result.id == member.job->id && result.fence == member.job->fence;
    if (!is_its_own) return "it told the end of a job that it does not have";
    finish(member, std::move(result));
    return {};
  }

  void finish(Member& member, AttemptResult result) {
    tell_progress(member);
    member.told_cpu_ms += result.usage.cpu_ms;
    member.rss_bytes_max = std::max(member.rss_bytes_max, result.usage.rss_bytes_max);
    if (member.reason) result = after_stop(*member.job, *member.reason, std::move(result));
    numbers_.erase({result.id, result.fence});
    std::erase(spared_, result.id);
    member.job.reset();
    member.reason.reset();
    MemberPool& pool = *member.pool;
    ++pool.job_count;
    pool.busy_ms += clock_now().mono_ms - member.given_ms;
    if (member.end) return tell(std::move(result));
    if (is_worn(member)) {
      ++pool.recycle_count;
      member.result = std::move(result);
      retire(member);
      fill(pool);
    } else {
      tell(std::move(result));
      rest(member);
    }
    serve(pool);
  }

  // ---------------------------------------------------------------- ends and timers

  void kill(Member& member, std::string spoiled) {
    member.spoiled = std::move(spoiled);
    spawner_.kill(member.number);
    arm(member, after(clock_now().mono_ms, kKillAgainMs));
    watch_backlog();
  }

  void fire(Now now) {
    for (auto& [task, pool] : pools_)
      if (!is_broken_ && now.mono_ms >= pool.refill_ms) fill(pool);
    while (!timers_.empty() && timers_.begin()->first <= now.mono_ms)
      fire(members_.at(timers_.begin()->second));
  }

  void fire(Member& member) {
    arm(member, kNever);
    if (member.is_silent || member.reason || !member.wire || !member.spoiled.empty())
      kill(member, member.spoiled.empty() ? "it closed its stream and lived on" : member.spoiled);
    else if (member.job)
      stop(member, StopReason::timed_out);
    else if (member.pool->total > member.pool->settings.processes_min)
      retire(member);
  }

  void on_spawner() {
    spawner_.flush();
    reports_.clear();
    const bool is_alive = spawner_.read(reports_);
    for (const SpawnReport& report : reports_) {
      const auto it = members_.find(report.id);
      if (it == members_.end()) continue;
      if (report.started_pid == 0)
        on_end(it->second, report);
      else if (it->second.wire)
        it->second.wire->started(report.started_pid);
    }
    if (!is_alive) give_up();
  }

  // Nothing of it is left. What it said last may still stand in its socket, and be much.
  void on_end(Member& member, const SpawnReport& report) {
    member.end = report;
    std::erase(member.pool->idle, &member);
    arm(member, kNever);
    read_errors(member);
    go_on(member);
  }

  // It is gone, and has been heard.
  void settle(Member& member) {
    const SpawnReport report = *member.end;
    MemberPool& pool = *member.pool;
    const bool was_used = member.job_count > 0;
    if (member.result) tell(std::move(*member.result));
    if (member.job) {
      numbers_.erase({member.job->id, member.job->fence});
      if (is_to_spare(member))
        tell(stopped_attempt(*member.job, StopReason::hand_back));
      else
        tell(judge(member, report));
    }
    if (member.wire) {
      --pool.total;
      ++pool.crash_count;
    }
    std::erase(pool.idle, &member);
    arm(member, kNever);
    members_.erase(member.number);
    if (is_broken_) return;
    if (was_used) {
      pool.refill_pause_ms = 0;
      pool.refill_ms = kNever;
    }
    if (pool.refill_ms == kNever) fill_again(pool, report);
    serve(pool);
  }

  // A program may leave between two jobs, as one that has done its hundred; the next may have been
  // given to it by then. Once for a job: one that makes its readers die is to blame in the end.
  bool is_to_spare(const Member& member) {
    if (!member.has_unread || member.job_count == 1 || member.reason) return false;
    if (is_spared(member.job->id)) return false;
    if (spared_.size() >= kSparedMax) spared_.pop_front();
    spared_.push_back(member.job->id);
    return true;
  }

  [[nodiscard]] bool is_spared(const JobId& id) const {
    return std::ranges::find(spared_, id) != spared_.end();
  }

  static AttemptResult judge(Member& member, const SpawnReport& report) {
    const RunJob& job = *member.job;
    const std::string tail = member.wire ? member.wire->errors().tail() : std::string();
    if (!member.reason && report.is_spawner_lost != 0) member.reason = StopReason::hand_back;
    AttemptResult result =
        member.reason
            ? stopped_attempt(job, *member.reason, tail)
            : member.pool->kind->judge_end(job, {report, std::move(member.spoiled), tail});
    // The report is of its whole life; what the jobs before this one were told is theirs.
    result.usage = usage_of(report);
    result.usage.cpu_ms = std::max<std::int64_t>(result.usage.cpu_ms - member.told_cpu_ms, 0);
    return result;
  }

  // The spawner is gone, and what it started with it; what they had started is swept by its marks.
  void give_up() {
    if (std::exchange(is_broken_, true)) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, spawner_.fd(), nullptr);
    sweep_processes(node_);
    SpawnReport lost;
    lost.is_spawner_lost = 1;
    while (!members_.empty()) {
      Member& member = members_.begin()->second;
      if (!member.end) member.end = lost;
      read_errors(member);
      (void)read(member,
                 kReadsPerTurn,
                 kWordsPerTurn);  // a result behind more than that runs again
      settle(member);
    }
    for (auto& [task, pool] : pools_) {
      for (const Assignment& assignment : std::exchange(pool.waiting, {}))
        tell(stopped_attempt(assignment.job, StopReason::hand_back));
    }
    events_.emplace_back(RuntimeFailed{"the spawner died"});
  }

  void tell(AttemptResult result) { events_.emplace_back(AttemptDone{std::move(result)}); }

  void arm(Member& member, std::int64_t due_ms) {
    if (member.due_ms != kNever) timers_.erase({member.due_ms, member.number});
    member.due_ms = due_ms;
    if (due_ms != kNever) timers_.emplace(due_ms, member.number);
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
  std::map<std::string, MemberPool, std::less<>> pools_;
  std::map<std::uint64_t, Member> members_;
  std::unordered_map<AttemptKey, std::uint64_t> numbers_;  // of those at work
  std::set<std::pair<std::int64_t, std::uint64_t>> timers_;
  std::uint64_t last_number_ = 0;
  std::unordered_set<std::uint64_t> talking_;  // who had more to say than there was time for
  std::deque<JobId> spared_;  // handed back because nobody had read them; the oldest goes first
  std::vector<RuntimeEvent> events_;
  std::vector<SpawnReport> reports_;
  bool is_every_error_read_ = false;  // that was at hand when this turn began
  bool is_backlog_watched_ = false;
  bool is_broken_ = false;
};

}  // namespace

std::unique_ptr<Runtime> make_pool_runtime(std::map<std::string, PoolSetup, std::less<>> pools,
                                           SpawnerChannel& spawner,
                                           std::string node) {
  return std::make_unique<PoolRuntime>(std::move(pools), spawner, std::move(node));
}

}  // namespace sluice
