// Runs in a process that never has a second thread. Keeper = the process between spawner and
// program; an isolate has none.
#include "worker/runtime/spawner_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "worker/runtime/descendants.h"
#include "worker/runtime/process_meter.h"
#include "worker/runtime/spawner.h"

namespace sluice {

namespace {

// To a keeper: end everything below you; the second says that it is because the spawner has died.
constexpr int kKillSignal = SIGUSR2;
constexpr int kOrphanSignal = SIGUSR1;

struct Order {
  std::uint64_t id = 0;
  bool is_isolate = false;  // else a program
  std::string handler;      // of an isolate
  bool tells_start = false;
  ProgramLimits limits;
  std::string cwd;
  std::string user;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::array<int, kPacketFdsMax> fds{-1, -1, -1, -1};
};

void close_fds(const Order& order) {
  for (const int fd : order.fds)
    if (fd >= 0) ::close(fd);
}

// Of the descriptors that a message brought.
std::size_t fd_bytes(const cmsghdr& header) {
  return header.cmsg_len - CMSG_LEN(0);
}

sigset_t kept_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal :
       {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, kKillSignal, kOrphanSignal})
    sigaddset(&signals, signal);
  return signals;
}

// Closes every descriptor from 3 on but these.
void keep_only(std::vector<int> fds) {
  std::sort(fds.begin(), fds.end());
  unsigned from = 3;
  for (const int fd : fds) {
    if (fd < 0 || static_cast<unsigned>(fd) < from) continue;
    if (static_cast<unsigned>(fd) > from) ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  ::close_range(from, ~0U, 0);
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts)
    all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

// ---------------------------------------------------------------- the program or the isolate

void default_signals() {
  for (int signal = 1; signal < NSIG; ++signal)
    ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Limits last: looking up a user may want more memory than they leave. 0, or an errno.
int confine(const Order& order) {
  if (const int error = order.user.empty() ? 0 : become_user(order.user); error != 0) return error;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of the user takes it away
  if (!order.cwd.empty() && ::chdir(order.cwd.c_str()) != 0) return errno;
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  return apply_limits(order.limits);
}

// What a copy of the spawner may have more when it is the program than when it told its peak: what
// it touches on the way, and the kernel counts pages in batches, on each CPU.
constexpr std::int64_t kRssErrorBytes = 2 << 20;

// What the program's process says to its keeper until it is the program.
struct ExecWord {
  std::int64_t rss_bytes = 0;  // the peak of a copy of the spawner: what exec does not take away
  std::int64_t error = 0;      // why it is no program, or 0
};

[[noreturn]] void give_up(int word_fd, int error) {
  const ExecWord word{0, error};
  (void)!::write(word_fd, &word, sizeof word);
  ::_exit(127);
}

// Of the program's own descriptors. `word_fd` is where it is told if there is no other one.
int out_of_the_way(int fd, int word_fd) {
  if (fd >= static_cast<int>(kPacketFdsMax)) return fd;
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, kPacketFdsMax);
  if (copy < 0) give_up(word_fd, errno);
  return copy;
}

// By the program's process itself: before anything that it could say.
void tell_start(const Order& order, int node_fd) {
  SpawnReport report;
  report.id = order.id;
  report.started_pid = ::getpid();
  (void)::send(node_fd, &report, sizeof report, MSG_NOSIGNAL);
}

void tell_peak(int word_fd) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const ExecWord word{spent_of(usage).rss_bytes_max, 0};
  (void)!::write(word_fd, &word, sizeof word);
}

[[noreturn]] void become_program(const Order& order, int node_fd, int word_fd) noexcept {
  ::setsid();
  if (order.tells_start) tell_start(order, node_fd);
  word_fd = out_of_the_way(word_fd, word_fd);
  for (int target = 0; target < 3; ++target)
    ::dup2(order.fds[static_cast<std::size_t>(target)], target);
  const bool has_progress = order.fds[3] >= 0;
  if (has_progress) {
    ::dup2(order.fds[3], 3);
    ::fcntl(3, F_SETFD, 0);  // it may have been 3 before
  }
  keep_only({has_progress ? 3 : -1, word_fd});
  default_signals();
  const std::vector<char*> argv = pointers(order.argv);
  const std::vector<char*> environment = pointers(order.environment);
  if (const int error = confine(order); error != 0) give_up(word_fd, error);
  tell_peak(word_fd);
  ::execvpe(argv[0], argv.data(), environment.data());
  give_up(word_fd, errno);
}

constexpr int kIsolateFailed = 70;  // EX_SOFTWARE

// Standard output and error are the node's. A subreaper, so that it can tell after every job
// whether something was left behind.
[[noreturn]] void become_isolate(const Order& order,
                                 const IsolateMain& isolate_main,
                                 pid_t spawner) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != spawner) ::_exit(0);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_NAME, "sluice-isolate");
  keep_only({order.fds[0], order.fds[1]});
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, 0);
  ::close(nothing);
  default_signals();
  ::signal(SIGPIPE, SIG_IGN);  // as in a node
  ProgramLimits lasting = order.limits;
  lasting.cpu_s = 0;  // of every job anew
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (apply_limits(lasting) != 0) ::_exit(127);
  try {
    isolate_main(order.fds[0], order.fds[1], order.handler, order.limits);
  } catch (const std::exception& error) {  // it must not go on as a second node
    std::fprintf(stderr, "isolate of %s: %s\n", order.handler.c_str(), error.what());
    ::_exit(kIsolateFailed);
  }
  ::_exit(0);
}

// ---------------------------------------------------------------- the keeper

void take_end(int status, const Spent& spent, SpawnReport& report) {
  report.wait_status = status;
  report.cpu_ms = spent.cpu_us / 1000;
  report.rss_bytes_max = spent.rss_bytes_max;
}

void take_left(const Spent& left, SpawnReport& report) {
  report.left_cpu_ms = left.cpu_us / 1000;
  report.rss_bytes_max = std::max(report.rss_bytes_max, left.rss_bytes_max);
}

// Until it is the program, or cannot be.
ExecWord hear_of_exec(int word_fd) {
  ExecWord all;
  ExecWord word;
  while (::read(word_fd, &word, sizeof word) == sizeof word) {
    all.rss_bytes = std::max(all.rss_bytes, word.rss_bytes);
    all.error = word.error;
  }
  return all;
}

// Waits for the program, passing on what it is asked meanwhile. Orphans are reaped on the way; what
// those have used is returned.
Spent attend(pid_t program, SpawnReport& report) {
  const sigset_t signals = kept_signals();
  Spent left;
  while (true) {
    int status = 0;
    rusage usage{};
    pid_t pid = 0;
    while ((pid = ::wait4(-1, &status, WNOHANG, &usage)) > 0) {
      if (pid != program) {
        left.add(spent_of(usage));
        continue;
      }
      take_end(status, spent_of(usage), report);
      ::kill(-program, SIGKILL);
      return left;
    }
    const int signal = ::sigwaitinfo(&signals, nullptr);
    if (signal == SIGTERM) ::kill(-program, SIGTERM);
    if (signal == kOrphanSignal) report.is_spawner_lost = 1;
    if (signal == kKillSignal || signal == kOrphanSignal) {
      ::kill(-program, SIGKILL);
      ::kill(program, SIGKILL);
    }
  }
}

[[noreturn]] void keeper_main(const Order& order, int node_fd, pid_t spawner) noexcept {
  ::setsid();
  ::prctl(PR_SET_NAME, "sluice-keeper");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_PDEATHSIG, kOrphanSignal);
  if (::getppid() != spawner) ::_exit(0);
  keep_only({node_fd, order.fds[0], order.fds[1], order.fds[2], order.fds[3]});
  std::array<int, 2> pipe{};
  SpawnReport report;
  report.id = order.id;
  const pid_t program = ::pipe2(pipe.data(), O_CLOEXEC) == 0 ? ::fork() : -1;
  if (program == 0) become_program(order, node_fd, pipe[1]);
  const int error = errno;
  close_fds(order);
  if (program < 0) {
    report.exec_errno = error;
  } else {
    ::close(pipe[1]);
    const ExecWord word = hear_of_exec(pipe[0]);
    report.exec_errno = static_cast<std::int32_t>(word.error);
    Spent left = attend(program, report);
    left.add(end_descendants());
    if (report.rss_bytes_max < word.rss_bytes + kRssErrorBytes) report.rss_bytes_max = 0;
    take_left(left, report);
  }
  while (::send(node_fd, &report, sizeof report, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
  ::_exit(0);
}

// ---------------------------------------------------------------- the spawner

class SpawnerProcess {
 public:
  SpawnerProcess(const std::vector<int>& fds, const IsolateMain& isolate_main)
      : isolate_main_(isolate_main), fds_(fds) {}

  [[noreturn]] void run() {
    const sigset_t signals = kept_signals();
    const int signal_fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    while (!fds_.empty()) {
      std::vector<pollfd> items{{signal_fd, POLLIN, 0}};
      for (const int fd : fds_)
        items.push_back({fd, POLLIN, 0});
      (void)::poll(items.data(), items.size(), -1);
      signalfd_siginfo info{};
      while (::read(signal_fd, &info, sizeof info) > 0) {
      }
      reap();
      for (const pollfd& item : items)
        if (item.fd != signal_fd && item.revents != 0 && !serve(item.fd)) end_channel(item.fd);
    }
    end_descendants();
    ::_exit(0);
  }

 private:
  // A keeper, or an isolate.
  struct Child {
    int fd = -1;  // the channel that asked for it
    std::uint64_t id = 0;
    pid_t pid = -1;
    bool is_isolate = false;

    // Its end comes by itself; a keeper ends what it keeps first.
    void kill() const { tell(is_isolate ? SIGKILL : kKillSignal); }

    // A program of the keeper's own user may have stopped it: it goes on, to hear this.
    void tell(int signal) const {
      ::kill(pid, signal);
      ::kill(pid, SIGCONT);
    }
  };

  // One packet. False when the node is gone, or needs the channel no more.
  bool serve(int fd) {
    buffer_.resize(SpawnerChannel::kRequestBytesMax);
    iovec part{buffer_.data(), buffer_.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kPacketFdsMax * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    if (static_cast<std::size_t>(size) < sizeof(SpawnerHead)) return false;
    SpawnerHead head;
    std::memcpy(&head, buffer_.data(), sizeof head);
    if (head.op == SpawnerOp::channel) {
      const cmsghdr* header = CMSG_FIRSTHDR(&message);
      int far_end = -1;
      if (header != nullptr) std::memcpy(&far_end, CMSG_DATA(header), sizeof far_end);
      if (far_end >= 0) fds_.push_back(far_end);
    } else if (head.op == SpawnerOp::spawn || head.op == SpawnerOp::isolate) {
      Order order = read_order(head, static_cast<std::size_t>(size));
      const cmsghdr* header = CMSG_FIRSTHDR(&message);
      if (header != nullptr) std::memcpy(order.fds.data(), CMSG_DATA(header), fd_bytes(*header));
      // The kernel gives as many descriptors as we may have, and drops the rest.
      if ((message.msg_flags & MSG_CTRUNC) != 0)
        refuse(fd, order, EMFILE);
      else
        start(fd, order);
    } else {
      for (const Child& child : children_) {
        if (child.fd != fd || child.id != head.id) continue;
        if (head.op == SpawnerOp::kill)
          child.kill();
        else
          child.tell(SIGTERM);
      }
    }
    return true;
  }

  Order read_order(const SpawnerHead& head, std::size_t size) const {
    Order order;
    order.id = head.id;
    order.is_isolate = head.op == SpawnerOp::isolate;
    order.tells_start = head.tells_start != 0;
    std::memcpy(&order.limits, buffer_.data() + sizeof(SpawnerHead), sizeof order.limits);
    std::vector<std::string> texts;
    for (std::size_t at = sizeof(SpawnerHead) + sizeof order.limits; at < size;) {
      texts.emplace_back(buffer_.data() + at);
      at += texts.back().size() + 1;
    }
    if (order.is_isolate) {
      order.handler = texts.at(0);
      return order;
    }
    order.cwd = texts.at(0);
    order.user = texts.at(1);
    const auto arguments = texts.begin() + 3;
    const auto environment = arguments + static_cast<std::ptrdiff_t>(std::stoul(texts.at(2)));
    order.argv.assign(arguments, environment);
    order.environment.assign(environment, texts.end());
    return order;
  }

  void start(int fd, const Order& order) {
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0 && order.is_isolate) become_isolate(order, isolate_main_, self);
    if (pid == 0) keeper_main(order, fd, self);
    if (pid < 0) return refuse(fd, order, errno);
    close_fds(order);
    children_.push_back({fd, order.id, pid, order.is_isolate});
  }

  void refuse(int fd, const Order& order, int error) {
    close_fds(order);
    SpawnReport report;
    report.id = order.id;
    report.exec_errno = error;
    (void)::send(fd, &report, sizeof report, MSG_NOSIGNAL);
  }

  // A keeper has reported, unless it was killed; then what it held is our child now, as is what an
  // isolate left. None of it may live on when its end is told. What of it ended by itself before is
  // booked to the next one whose end is told: mostly the one that had it.
  void reap() {
    int status = 0;
    pid_t pid = 0;
    rusage usage{};
    while ((pid = ::wait4(-1, &status, WNOHANG, &usage)) > 0) {
      const auto it = std::find_if(children_.begin(), children_.end(), [&](const Child& child) {
        return child.pid == pid;
      });
      if (it == children_.end()) {
        strangers_.add(spent_of(usage));
        continue;
      }
      const Child ended = *it;
      children_.erase(it);
      const bool has_reported = !ended.is_isolate && WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (!has_reported) report_end(ended, status, spent_of(usage));
    }
  }

  void report_end(const Child& ended, int status, const Spent& spent) {
    end_strangers();
    SpawnReport report;
    report.id = ended.id;
    if (ended.is_isolate)
      take_end(status, spent, report);
    else
      report.is_keeper_lost = 1;
    take_left(std::exchange(strangers_, {}), report);
    if (!ended.is_isolate) report.rss_bytes_max = 0;  // a program's, and copies of the node
    (void)::send(ended.fd, &report, sizeof report, MSG_NOSIGNAL);
  }

  // Children that we did not start. Those that live keep their own: they are subreapers themselves.
  void end_strangers() {
    while (true) {
      std::vector<pid_t> strangers = children_of_self();
      std::erase_if(strangers, [&](pid_t pid) {
        return std::any_of(children_.begin(), children_.end(), [&](const Child& child) {
          return child.pid == pid;
        });
      });
      if (strangers.empty()) return;
      for (const pid_t stranger : strangers)
        kill_tree(stranger);
      for (const pid_t stranger : strangers) {
        rusage usage{};
        if (::wait4(stranger, nullptr, 0, &usage) > 0) strangers_.add(spent_of(usage));
      }
    }
  }

  // Ends what was started over the channel; that it closes says that nothing of it is left.
  void end_channel(int fd) {
    for (const Child& child : children_)
      if (child.fd == fd) child.kill();
    for (const Child& child : children_)
      if (child.fd == fd) (void)::waitpid(child.pid, nullptr, 0);
    std::erase_if(children_, [&](const Child& child) { return child.fd == fd; });
    end_strangers();
    std::erase(fds_, fd);
    ::close(fd);
  }

  const IsolateMain& isolate_main_;
  std::vector<int> fds_;
  std::string buffer_;
  std::vector<Child> children_;  // few: one for each process that runs
  Spent strangers_;              // of children that we did not start, since the last report
};

}  // namespace

void run_spawner(const std::vector<int>& fds, const IsolateMain& isolate_main) {
  ::setsid();  // Ctrl-C at the terminal is the node's business
  ::prctl(PR_SET_NAME, "sluice-spawner");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t signals = kept_signals();
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  keep_only(fds);
  SpawnerProcess(fds, isolate_main).run();
}

}  // namespace sluice
