// What an isolate costs: isolate-bench in a release build. A runtime is driven directly, without a
// broker; beside each figure stands what the system takes for the same without us, from the same
// run. Every row: median (least - most) of the rounds.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/isolate_runtime.h"
#include "worker/runtime/thread_runtime.h"

namespace {

using namespace sluice;

constexpr int kRounds = 7;
constexpr std::size_t kPayloadBytes = 200;

double now_us() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

void row(const char* what, const char* unit, const std::function<double()>& measure) {
  std::vector<double> values;
  for (int round = 0; round < kRounds; ++round)
    values.push_back(measure());
  std::ranges::sort(values);
  std::printf("%-58s %9.1f (%.1f - %.1f) %s\n",
              what,
              values[values.size() / 2],
              values.front(),
              values.back(),
              unit);
  std::fflush(stdout);
}

// ---------------------------------------------------------------- a runtime, driven

class Driver {
 public:
  explicit Driver(std::unique_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}

  // `count` jobs, at most `slots` at once. Microseconds a job.
  double run(int count, int slots, const std::string& payload = std::string(kPayloadBytes, 'x')) {
    const double begun = now_us();
    int started = 0;
    int ended = 0;
    while (ended < count) {
      while (started < count && started - ended < slots)
        start(++started, payload);
      ended += turn();
    }
    return (now_us() - begun) / count;
  }

  [[nodiscard]] Runtime& runtime() { return *runtime_; }

 private:
  void start(int number, const std::string& payload) {
    Assignment assignment;
    assignment.job.id = JobId("job-" + std::to_string(number));
    assignment.job.fence = {7, 1};
    assignment.job.task = "t";
    assignment.job.queue = "q";
    assignment.job.payload = payload;
    runtime_->start(std::move(assignment));
  }

  int turn() {
    pollfd item{runtime_->fd(), POLLIN, 0};
    if (runtime_->next_deadline_mono_ms() > 0) (void)::poll(&item, 1, 10'000);
    events_.clear();
    runtime_->poll(clock_now(), events_);
    return static_cast<int>(std::ranges::count_if(events_, [](const RuntimeEvent& event) {
      return std::holds_alternative<AttemptDone>(event);
    }));
  }

  std::unique_ptr<Runtime> runtime_;
  std::vector<RuntimeEvent> events_;
};

// One node's isolates for the task `t`; the spawner is forked here.
class Pool {
 public:
  explicit Pool(std::int64_t isolates) {
    handlers_["t"] = make_handler([](Task& task) {
      if (task.payload() == "crash") ::raise(SIGSEGV);
      return TaskOutcome::ok();
    });
    TaskSettings settings("t", {{"isolates_min", isolates}, {"isolates_max", isolates}});
    if (!builder_.add(settings)) std::abort();
    builder_.teach("bench@1", spawner_);
    builder_.prepare("bench@1", spawner_);
    spawner_.fork();
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() { return builder_.build(); }

  [[nodiscard]] pid_t spawner() const { return spawner_.pid(); }

 private:
  Spawner spawner_;
  Handlers handlers_;
  IsolateRuntimeBuilder builder_{handlers_};
};

// Programs of the task `t`, one for each job.
class Programs {
 public:
  Programs() {
    TaskSettings settings("t", {{"program", TaskSettings::Texts{"/bin/true"}}});
    if (!builder_.add(settings)) std::abort();
    builder_.prepare("bench@1", spawner_);
    spawner_.fork();
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() { return builder_.build(); }

 private:
  Spawner spawner_;
  ExecRuntimeBuilder builder_;
};

// ---------------------------------------------------------------- the same without us

// A program over and over by posix_spawn, with the three pipes of a job, so many at once. What it
// says is read to its end, then it is waited for.
class Spawns {
 public:
  // Microseconds a program.
  double run(int count, int slots) {
    const double begun = now_us();
    for (int started = 0, ended = 0; ended < count;) {
      while (started < count && started - ended < slots) {
        start();
        ++started;
      }
      ended += turn();
    }
    return (now_us() - begun) / count;
  }

 private:
  struct Program {
    pid_t pid = 0;
    std::array<int, 2> fds{};  // what it says
    int open_count = 2;
  };

  void start() {
    std::array<std::array<int, 2>, 3> pipes{};
    for (auto& ends : pipes)
      if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; ++fd)
      posix_spawn_file_actions_adddup2(&actions,
                                       pipes[static_cast<std::size_t>(fd)][fd == 0 ? 0 : 1],
                                       fd);
    Program program;
    std::array<char*, 2> argv{const_cast<char*>("/bin/true"), nullptr};
    if (::posix_spawn(&program.pid, argv[0], &actions, nullptr, argv.data(), environ) != 0)
      std::abort();
    posix_spawn_file_actions_destroy(&actions);
    for (const int fd : {pipes[0][0], pipes[0][1], pipes[1][1], pipes[2][1]})
      ::close(fd);
    program.fds = {pipes[1][0], pipes[2][0]};
    programs_.push_back(program);
  }

  int turn() {
    std::vector<pollfd> items;
    for (const Program& program : programs_)
      for (const int fd : program.fds)
        items.push_back({fd, POLLIN, 0});  // -1 is left out
    (void)::poll(items.data(), items.size(), -1);
    std::array<char, 4096> buffer{};
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (items[i].revents == 0 || ::read(items[i].fd, buffer.data(), buffer.size()) > 0) continue;
      Program& program = programs_[i / 2];
      ::close(std::exchange(program.fds[i % 2], -1));
      --program.open_count;
    }
    return static_cast<int>(std::erase_if(programs_, [](const Program& program) {
      return program.open_count == 0 && ::waitpid(program.pid, nullptr, 0) == program.pid;
    }));
  }

  std::vector<Program> programs_;
};

// Processes that send back what they get, over sockets as those of isolates.
class Echoes {
 public:
  explicit Echoes(int count) : epoll_(::epoll_create1(0)) {
    for (int i = 0; i < count; ++i) {
      std::array<int, 2> ends{};
      if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) std::abort();
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::close(ends[0]);
        for (const int fd : fds_)
          ::close(fd);
        std::array<char, 4096> buffer{};
        ssize_t size = 0;
        while ((size = ::read(ends[1], buffer.data(), buffer.size())) > 0)
          (void)!::write(ends[1], buffer.data(), static_cast<std::size_t>(size));
        ::_exit(0);
      }
      ::close(ends[1]);
      fds_.push_back(ends[0]);
      pids_.push_back(pid);
      epoll_event event{.events = EPOLLIN, .data = {.fd = ends[0]}};
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, ends[0], &event);
    }
  }

  ~Echoes() {
    for (const int fd : fds_)
      ::close(fd);
    for (const pid_t pid : pids_)
      ::waitpid(pid, nullptr, 0);
    ::close(epoll_);
  }

  Echoes(const Echoes&) = delete;
  Echoes& operator=(const Echoes&) = delete;

  // Microseconds a round trip, all of them busy.
  double run(int count) {
    const double begun = now_us();
    const std::string message(kPayloadBytes + 150, 'x');
    int sent = 0;
    int ended = 0;
    for (const int fd : fds_)
      sent += static_cast<int>(::write(fd, message.data(), message.size()) > 0);
    std::array<epoll_event, 64> ready{};
    std::array<char, 4096> buffer{};
    while (ended < count) {
      const int there = ::epoll_wait(epoll_, ready.data(), ready.size(), -1);
      for (int i = 0; i < there; ++i) {
        const int fd = ready[static_cast<std::size_t>(i)].data.fd;
        (void)!::read(fd, buffer.data(), buffer.size());
        ++ended;
        if (sent++ < count) (void)!::write(fd, message.data(), message.size());
      }
    }
    return (now_us() - begun) / count;
  }

 private:
  int epoll_;
  std::vector<int> fds_;
  std::vector<pid_t> pids_;
};

// ---------------------------------------------------------------- memory

std::vector<pid_t> children_of(pid_t pid) {
  const std::string text = std::to_string(pid);
  std::ifstream file("/proc/" + text + "/task/" + text + "/children");
  std::vector<pid_t> pids;
  for (pid_t child = 0; file >> child;)
    pids.push_back(child);
  return pids;
}

double unshared_kib(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
  double total = 0;
  for (std::string word; file >> word;) {
    double value = 0;
    if ((word == "Private_Clean:" || word == "Private_Dirty:") && file >> value) total += value;
  }
  return total;
}

double memory_kib(Pool& pool) {
  double total = 0;
  const std::vector<pid_t> isolates = children_of(pool.spawner());
  for (const pid_t isolate : isolates)
    total += unshared_kib(isolate);
  return total / static_cast<double>(isolates.size());
}

void measure_isolates(int slots) {
  Pool pool(slots);
  Driver driver(pool.build());
  (void)driver.run(slots * 10, slots);
  const std::string text = std::to_string(slots) + " isolates, all busy";
  row(text.c_str(), "us/job", [&] { return driver.run(20'000, slots); });
  Echoes echoes(slots);
  row("  as many bare processes that echo", "us/job", [&] { return echoes.run(20'000); });
}

}  // namespace

// Whatever forks comes before the first thread.
int main(int argc, char** argv) {
  if (argc > 1) {
    std::puts(
        "Measures the runtimes of a node; takes no arguments. tests/bench/README.md says what the "
        "rows are.");
    return std::string_view(argv[1]) == "--help" ? 0 : 2;
  }
  for (const int slots : {2, 8, 64})
    measure_isolates(slots);
  {
    Programs programs;
    Driver driver(programs.build());
    Spawns spawns;
    row("a program per job, 8 at once", "us/job", [&] { return driver.run(500, 8, {}); });
    row("  posix_spawn with the same three pipes, 8 at once", "us", [&] {
      return spawns.run(500, 8);
    });
  }
  {
    Pool pool(1);
    Driver driver(pool.build());
    (void)driver.run(100, 1);
    row("1 isolate, one job at a time", "us/job", [&] { return driver.run(5'000, 1); });
    Echoes echoes(1);
    row("  a bare ping-pong", "us/job", [&] { return echoes.run(5'000); });
    row("a crash, and the job after it in the new isolate", "us", [&] {
      return driver.run(1, 1, "crash") + driver.run(1, 1);
    });
  }
  row("64 isolates from nothing to a job done in each", "ms", [] {
    Pool pool(64);
    const double begun = now_us();
    Driver driver(pool.build());
    (void)driver.run(64, 64);
    return (now_us() - begun) / 1000;
  });
  {
    Pool pool(64);
    Driver driver(pool.build());
    (void)driver.run(6'400, 64);
    row("memory of an idle isolate, unshared", "KiB", [&] { return memory_kib(pool); });
  }
  {
    const Handlers handlers{{"t", make_handler([](Task&) { return TaskOutcome::ok(); })}};
    ThreadRuntimeBuilder builder(handlers);
    TaskSettings settings("t", {});
    if (!builder.add(settings)) std::abort();
    Driver driver(builder.build());
    row("the thread runtime, 8 slots busy", "us/job", [&] { return driver.run(100'000, 8); });
  }
  return 0;
}
