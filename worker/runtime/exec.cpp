#include "worker/runtime/exec.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "common/clock.h"
#include "common/limits.h"
#include "worker/runtime/life.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/program_arguments.h"
#include "worker/runtime/progress_lines.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

constexpr std::uint64_t kSpawnerTag = 0;  // numbers begin with 1
constexpr int kReadsPerTurn = 4;          // of 64 KiB: a flood does not starve the others
constexpr int kReadsAtEnd = 32;           // more than a pipe holds

// What a program writes to; kStreams * n + one of them is the tag in epoll of the number n.
enum Stream : std::uint8_t {
  kOut,
  kErr,
  kProgress,
  kStreams
};

// What runs.
struct Running {
  RunJob job;  // without its payload
  const ExecTask* task = nullptr;
  std::int64_t due_ms = kNever;  // the task's own time-out, or the SIGKILL behind a SIGTERM
  std::optional<StopReason> reason;
  std::array<UniqueFd, kStreams> streams;
  std::string output;
  bool is_flooding = false;  // stdout passed the bound; it is being killed
  std::string error_tail;
  ProgressLines progress;
};

AttemptResult judge_exit(Running& running, const SpawnReport& report) {
  if (running.is_flooding)
    return failed_attempt(running.job,
                          "result_too_large",
                          "killed: stdout passed " +
                              std::to_string(running.task->output_bytes_max) +
                              " bytes, all that a result may have",
                          false);
  if (report.is_keeper_lost != 0)
    return failed_attempt(running.job,
                          "keeper_lost",
                          "its keeper process was killed from outside",
                          true);
  if (report.exec_errno != 0) return never_ran(running.job, running.task->program, report);
  if (!WIFEXITED(report.wait_status) || WEXITSTATUS(report.wait_status) != 0)
    return failed_by_exit(running.job,
                          running.task->program.limits,
                          report,
                          {},
                          running.error_tail);
  AttemptResult result;
  result.id = running.job.id;
  result.fence = running.job.fence;
  result.result = std::move(running.output);
  return result;
}

// The reason of a stop decides; how the program took it does not matter.
AttemptResult judge(Running& running, const SpawnReport& report) {
  if (!running.reason && report.is_spawner_lost != 0) running.reason = StopReason::hand_back;
  AttemptResult result = running.reason
                             ? stopped_attempt(running.job, *running.reason, running.error_tail)
                             : judge_exit(running, report);
  result.usage = usage_of(report);
  return result;
}

// The payload as a file that only we have: no pipe to fill, no program that blocks us.
UniqueFd stdin_with(const std::string& payload, bool is_wanted) {
  if (!is_wanted || payload.empty()) return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd fd(::memfd_create("sluice-payload", MFD_CLOEXEC));
  for (std::size_t at = 0; fd.is_open() && at < payload.size();) {
    const ssize_t written = ::write(fd.get(), payload.data() + at, payload.size() - at);
    if (written <= 0) return {};
    at += static_cast<std::size_t>(written);
  }
  if (fd.is_open()) ::lseek(fd.get(), 0, SEEK_SET);
  return fd;
}

class ExecRuntime : public Runtime {
 public:
  ExecRuntime(std::map<std::string, ExecTask, std::less<>> tasks,
              SpawnerChannel& spawner,
              std::string node)
      : tasks_(std::move(tasks)),
        spawner_(spawner),
        node_(std::move(node)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_.is_open()) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    watch(spawner_.fd(), kSpawnerTag, EPOLLIN, EPOLL_CTL_ADD);
  }

  void start(Assignment assignment) override {
    RunJob& job = assignment.job;
    const auto task = tasks_.find(job.task);
    if (is_broken_ || task == tasks_.end())
      return tell(failed_attempt(job, "task_not_offered", "no program for " + job.task, true));
    auto argv = fill_arguments(task->second.program.argv, job);
    if (!argv) return tell(failed_attempt(job, "bad_payload", argv.error().detail, false));
    launch(task->second, std::move(*argv), job);
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = numbers_.find({id, fence});
    if (it != numbers_.end()) stop(it->second, running_.at(it->second), reason);
  }

  [[nodiscard]] int fd() const override { return epoll_.get(); }

  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override {
    if (!events_.empty()) return 0;
    std::int64_t next = kNever;
    for (const auto& [number, running] : running_)
      next = std::min(next, running.due_ms);
    return next;
  }

  void poll(Now now, std::vector<RuntimeEvent>& events) override {
    std::array<epoll_event, 64> ready{};
    const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), 0);
    for (int i = 0; i < count; ++i)
      on_ready(ready[static_cast<std::size_t>(i)].data.u64);
    fire(now);
    watch_backlog();
    for (RuntimeEvent& event : std::exchange(events_, {}))
      events.push_back(std::move(event));
  }

  void end_idle() override { spawner_.close_idle(); }

  [[nodiscard]] bool shut_down() override {
    spawner_.close();
    return true;
  }

 private:
  void launch(const ExecTask& task, std::vector<std::string> argv, RunJob& job) {
    Running running;
    std::array<UniqueFd, kStreams> ends;
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      std::array<int, 2> pipe{-1, -1};
      if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return tell(cannot_start(job, errno));
      running.streams[stream] = UniqueFd(pipe[0]);
      ends[stream] = UniqueFd(pipe[1]);
    }
    const UniqueFd in = stdin_with(job.payload, task.is_payload_on_stdin);
    if (!in.is_open()) return tell(cannot_start(job, errno));
    const std::uint64_t number = ++last_number_;
    SpawnRequest request{.id = number,
                         .argv = std::move(argv),
                         .environment = environment(task, job),
                         .cwd = task.program.cwd,
                         .user = task.program.user,
                         .limits = task.program.limits,
                         .stdin_fd = in.get(),
                         .stdout_fd = ends[kOut].get(),
                         .stderr_fd = ends[kErr].get(),
                         .progress_fd = ends[kProgress].get()};
    const int error = spawner_.spawn(request);
    if (error == E2BIG)
      return tell(
          failed_attempt(job, "arguments_too_large", "arguments exceed 128 KiB; use stdin", false));
    if (error != 0) return tell(cannot_start(job, error));
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      const int fd = running.streams[stream].get();
      ::fcntl(fd, F_SETFL, O_NONBLOCK);
      watch(fd, number * kStreams + stream, EPOLLIN, EPOLL_CTL_ADD);
    }
    watch_backlog();
    job.payload.clear();
    running.task = &task;
    if (task.timeout_ms > 0) running.due_ms = after(clock_now().mono_ms, task.timeout_ms);
    numbers_[{job.id, job.fence}] = number;
    running.job = std::move(job);
    running_.emplace(number, std::move(running));
  }

  std::vector<std::string> environment(const ExecTask& task, const RunJob& job) const {
    std::vector<std::string> all = environment_of(task.program, node_, job.task);
    all.push_back("SLUICE_JOB_ID=" + job.id.str());
    all.push_back("SLUICE_ATTEMPT=" + std::to_string(job.fence.attempt));
    all.push_back("SLUICE_FENCE=" + job.fence.str());
    all.push_back("SLUICE_QUEUE=" + job.queue);
    all.push_back("SLUICE_RETRY_COUNT=" + std::to_string(job.retry_count));
    // A text as it is; an environment has no place for anything else.
    if (!job.checkpoint.empty() && job.checkpoint.find('\0') == std::string::npos)
      all.push_back("SLUICE_CHECKPOINT=" + job.checkpoint);
    return all;
  }

  void stop(std::uint64_t number, Running& running, StopReason reason) {
    if (running.is_flooding && reason == StopReason::timed_out) return;
    if (running.reason) {
      if (reason == StopReason::dropped) running.reason = reason;
      return;
    }
    running.reason = reason;
    running.due_ms = after(clock_now().mono_ms, running.task->grace_ms);
    spawner_.terminate(number);
    watch_backlog();
  }

  // Again until its end is told.
  void kill(std::uint64_t number, Running& running) {
    running.due_ms = after(clock_now().mono_ms, kKillAgainMs);
    spawner_.kill(number);
    watch_backlog();
  }

  void fire(Now now) {
    for (auto& [number, running] : running_) {
      if (now.mono_ms < running.due_ms) continue;
      if (!running.reason && !running.is_flooding)
        stop(number, running, StopReason::timed_out);
      else
        kill(number, running);
    }
  }

  void on_ready(std::uint64_t tag) {
    if (tag == kSpawnerTag) {
      spawner_.flush();
      reports_.clear();
      const bool is_alive = spawner_.read(reports_);
      for (const SpawnReport& report : reports_) {
        const auto it = running_.find(report.id);
        if (it == running_.end()) continue;
        end(report.id, it->second, report);
      }
      if (!is_alive) give_up();
      return;
    }
    const std::uint64_t number = tag / kStreams;
    const auto it = running_.find(number);
    if (it == running_.end()) return;
    switch (tag % kStreams) {
      case kOut:
        return read_output(number, it->second, kReadsPerTurn);
      case kErr:
        return read_errors(it->second, kReadsPerTurn);
      default:
        return read_progress(it->second, kReadsPerTurn);
    }
  }

  // What passes the bound can be no result any more, so the program need not go on; until it is
  // gone its output is read and thrown away.
  void read_output(std::uint64_t number, Running& running, int reads_max) {
    drain(running.streams[kOut], reads_max, [&](std::string_view bytes) {
      if (running.is_flooding) return;
      running.output += bytes;
      if (running.output.size() <= running.task->output_bytes_max) return;
      running.is_flooding = true;
      running.output = {};
      kill(number, running);
    });
  }

  void read_errors(Running& running, int reads_max) {
    drain(running.streams[kErr], reads_max, [&](std::string_view bytes) {
      keep_tail(running.error_tail, bytes);
      events_.emplace_back(AttemptLog{running.job.id, running.job.fence, std::string(bytes)});
    });
  }

  void read_progress(Running& running, int reads_max) {
    drain(running.streams[kProgress], reads_max, [&](std::string_view bytes) {
      if (auto said = running.progress.take(bytes, running.job.id, running.job.fence))
        events_.emplace_back(std::move(*said));
    });
  }

  template <typename Take>
  void drain(UniqueFd& fd, int reads_max, Take take) {
    for (int reads = 0; reads < reads_max && fd.is_open(); ++reads) {
      const ssize_t size = ::read(fd.get(), buffer_.data(), buffer_.size());
      if (size > 0)
        take(std::string_view(buffer_.data(), static_cast<std::size_t>(size)));
      else if (size < 0 && errno == EINTR)
        continue;
      else if (size < 0 && errno == EAGAIN)
        return;
      else
        fd.reset();
    }
  }

  // The keeper has reported that nobody is left, so all that was said is in the pipes. Their ends
  // are not waited for: somebody outside may have been given one.
  void end(std::uint64_t number, Running& running, const SpawnReport& report) {
    read_output(number, running, kReadsAtEnd);
    read_errors(running, kReadsAtEnd);
    read_progress(running, kReadsAtEnd);
    if (!running.progress.complaint().empty())
      keep_tail(running.error_tail, "\nsluice: " + running.progress.complaint());
    tell(judge(running, report));
    numbers_.erase({running.job.id, running.job.fence});
    running_.erase(number);
  }

  // The spawner is gone. Its keepers end everything below them; make sure, then hand it all back.
  void give_up() {
    if (std::exchange(is_broken_, true)) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, spawner_.fd(), nullptr);
    sweep_processes(node_);
    for (auto& [number, running] : running_) {
      running.reason = running.reason.value_or(StopReason::hand_back);
      tell(judge(running, SpawnReport{}));
    }
    running_.clear();
    numbers_.clear();
    events_.emplace_back(RuntimeFailed{"the spawner died"});
  }

  void tell(AttemptResult result) { events_.emplace_back(AttemptDone{std::move(result)}); }

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

  std::map<std::string, ExecTask, std::less<>> tasks_;
  SpawnerChannel& spawner_;
  std::string node_;
  UniqueFd epoll_;
  std::map<std::uint64_t, Running> running_;
  std::unordered_map<AttemptKey, std::uint64_t> numbers_;
  std::uint64_t last_number_ = 0;
  std::vector<RuntimeEvent> events_;
  std::vector<SpawnReport> reports_;
  std::array<char, 65'536> buffer_{};
  bool is_backlog_watched_ = false;
  bool is_broken_ = false;
};

Result<void> take_times(TaskSettings& settings, ExecTask& task) {
  const auto timeout = settings.take_duration_ms("timeout");
  if (!timeout) return tl::unexpected(timeout.error());
  task.timeout_ms = timeout->value_or(0);
  const auto grace = settings.take_duration_ms("grace");
  if (!grace) return tl::unexpected(grace.error());
  task.grace_ms = grace->value_or(task.grace_ms);
  return {};
}

}  // namespace

Result<void> ExecRuntimeBuilder::add(TaskSettings& settings) {
  ExecTask task;
  auto program = take_program(settings);
  if (!program) return tl::unexpected(program.error());
  task.program = std::move(*program);
  const auto in = settings.take_text("stdin");
  if (!in) return tl::unexpected(in.error());
  if (*in && **in != "payload" && **in != "none")
    return tl::unexpected(settings.error("stdin", "must be \"payload\" or \"none\""));
  task.is_payload_on_stdin = in->value_or("payload") == "payload";
  if (auto taken = take_times(settings, task); !taken) return taken;
  const auto output = settings.take_bytes("limits.output");
  if (!output) return tl::unexpected(output.error());
  task.output_bytes_max = static_cast<std::uint64_t>(output->value_or(kResultBytesMax));
  if (task.output_bytes_max > kResultBytesMax)
    return tl::unexpected(settings.error("limits.output", "a result has at most 1 MiB"));
  tasks_[settings.task()] = std::move(task);
  return {};
}

DescriptorNeed ExecRuntimeBuilder::descriptors(std::uint32_t) const {
  return {.per_attempt = 5};  // its three streams, its progress, and its keeper
}

void ExecRuntimeBuilder::prepare(const std::string& node, Spawner& spawner) {
  node_ = node;
  spawner_ = &spawner.open_channel();
}

std::unique_ptr<Runtime> ExecRuntimeBuilder::build() {
  return std::make_unique<ExecRuntime>(std::move(tasks_), *spawner_, std::move(node_));
}

}  // namespace sluice
