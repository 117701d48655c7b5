// Runs in a process that never has a second thread. Keeper = the process between spawner and
// program.
#include "worker/runtime/spawner_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "worker/runtime/spawner.h"

namespace sluice {

namespace {

// To a keeper: end everything below you; the second says that it is because the spawner has died.
constexpr int kKillSignal = SIGUSR2;
constexpr int kOrphanSignal = SIGUSR1;

struct Order {
  std::uint64_t id = 0;
  std::string cwd;
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::array<int, 3> fds{-1, -1, -1};
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

std::vector<pid_t> children() {
  const std::string self = std::to_string(::getpid());
  std::ifstream file("/proc/" + self + "/task/" + self + "/children");
  std::vector<pid_t> pids;
  for (pid_t pid = 0; file >> pid;)
    pids.push_back(pid);
  return pids;
}

char* const* pointers(const std::vector<std::string>& texts, std::vector<char*>& target) {
  for (const std::string& text : texts)
    target.push_back(const_cast<char*>(text.c_str()));
  target.push_back(nullptr);
  return target.data();
}

// ---------------------------------------------------------------- the program

[[noreturn]] void become_program(const Order& order, int error_fd) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int target = 0; target < 3; ++target)
    ::dup2(order.fds[static_cast<std::size_t>(target)], target);
  ::dup2(error_fd, 3);
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  ::close_range(4, ~0U, 0);
  for (int signal = 1; signal < NSIG; ++signal)
    ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (order.cwd.empty() || ::chdir(order.cwd.c_str()) == 0) {
    std::vector<char*> argv;
    std::vector<char*> environment;
    ::execvpe(order.argv[0].c_str(),
              pointers(order.argv, argv),
              pointers(order.environment, environment));
  }
  const int error = errno;
  (void)!::write(3, &error, sizeof error);
  ::_exit(127);
}

// ---------------------------------------------------------------- the keeper

// Kills what is below us until nothing is. A killed parent hands its children to us.
void end_descendants() {
  while (true) {
    for (const pid_t pid : children())
      ::kill(pid, SIGKILL);
    const pid_t pid = ::waitpid(-1, nullptr, 0);
    if (pid < 0 && errno == ECHILD) return;
  }
}

std::int64_t milliseconds(const timeval& time) {
  return time.tv_sec * 1000 + time.tv_usec / 1000;
}

// Waits for the program, passing on what it is asked meanwhile. Orphans are reaped on the way.
void attend(pid_t program, SpawnReport& report) {
  const sigset_t signals = kept_signals();
  while (true) {
    int status = 0;
    rusage usage{};
    pid_t pid = 0;
    while ((pid = ::wait4(-1, &status, WNOHANG, &usage)) > 0) {
      if (pid != program) continue;
      report.wait_status = status;
      report.cpu_ms = milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime);
      report.rss_bytes_max = usage.ru_maxrss * 1024;
      ::kill(-program, SIGKILL);
      return;
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

[[noreturn]] void keep(const Order& order, int node_fd, pid_t spawner) {
  ::setsid();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_PDEATHSIG, kOrphanSignal);
  if (::getppid() != spawner) ::_exit(0);
  std::array<int, 2> pipe{};
  SpawnReport report;
  report.id = order.id;
  const pid_t program = ::pipe2(pipe.data(), O_CLOEXEC) == 0 ? ::fork() : -1;
  if (program == 0) become_program(order, pipe[1]);
  const int error = errno;
  close_fds(order);
  if (program < 0) {
    report.exec_errno = error;
  } else {
    ::close(pipe[1]);
    int exec_errno = 0;
    if (::read(pipe[0], &exec_errno, sizeof exec_errno) == sizeof exec_errno)
      report.exec_errno = exec_errno;
    attend(program, report);
    end_descendants();
  }
  while (::send(node_fd, &report, sizeof report, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
  ::_exit(0);
}

// ---------------------------------------------------------------- the spawner

class SpawnerProcess {
 public:
  explicit SpawnerProcess(int fd) : fd_(fd) {}

  [[noreturn]] void run() {
    const sigset_t signals = kept_signals();
    const int signal_fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    while (true) {
      std::array<pollfd, 2> items{{{fd_, POLLIN, 0}, {signal_fd, POLLIN, 0}}};
      (void)::poll(items.data(), items.size(), -1);
      signalfd_siginfo info{};
      while (::read(signal_fd, &info, sizeof info) > 0) {
      }
      reap();
      if (items[0].revents != 0 && !serve()) leave();
    }
  }

 private:
  // One packet. False when the node is gone.
  bool serve() {
    buffer_.resize(Spawner::kRequestBytesMax);
    iovec part{buffer_.data(), buffer_.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(3 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    if (static_cast<std::size_t>(size) < sizeof(SpawnerHead)) return false;
    SpawnerHead head;
    std::memcpy(&head, buffer_.data(), sizeof head);
    if (head.op == SpawnerOp::spawn) {
      Order order = read_order(head.id, static_cast<std::size_t>(size));
      const cmsghdr* header = CMSG_FIRSTHDR(&message);
      if (header != nullptr) std::memcpy(order.fds.data(), CMSG_DATA(header), fd_bytes(*header));
      // The kernel gives as many descriptors as we may have, and drops the rest.
      if ((message.msg_flags & MSG_CTRUNC) != 0)
        refuse(order, EMFILE);
      else
        start(order);
    } else if (const auto it = keepers_.find(head.id); it != keepers_.end()) {
      ::kill(it->second, head.op == SpawnerOp::kill ? kKillSignal : SIGTERM);
    }
    return true;
  }

  Order read_order(std::uint64_t id, std::size_t size) const {
    std::vector<std::string> texts;
    for (std::size_t at = sizeof(SpawnerHead); at < size;) {
      texts.emplace_back(buffer_.data() + at);
      at += texts.back().size() + 1;
    }
    Order order{.id = id, .cwd = texts.at(0), .argv = {}, .environment = {}};
    const auto arguments = static_cast<std::ptrdiff_t>(std::stoul(texts.at(1)));
    order.argv.assign(texts.begin() + 2, texts.begin() + 2 + arguments);
    order.environment.assign(texts.begin() + 2 + arguments, texts.end());
    return order;
  }

  void start(const Order& order) {
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) keep(order, fd_, self);
    if (pid < 0) return refuse(order, errno);
    close_fds(order);
    keepers_[order.id] = pid;
  }

  void refuse(const Order& order, int error) {
    close_fds(order);
    SpawnReport report;
    report.id = order.id;
    report.exec_errno = error;
    (void)::send(fd_, &report, sizeof report, MSG_NOSIGNAL);
  }

  // A keeper that did not leave by itself could not report. What it held is our child now: none of
  // it may live on when its end is told.
  void reap() {
    int status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
      for (auto it = keepers_.begin(); it != keepers_.end(); ++it) {
        if (it->second != pid) continue;
        const std::uint64_t id = it->first;
        keepers_.erase(it);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) report_lost(id);
        break;
      }
    }
  }

  void report_lost(std::uint64_t id) {
    while (true) {
      std::vector<pid_t> strangers;
      for (const pid_t child : children()) {
        bool is_keeper = false;
        for (const auto& [kept_id, keeper] : keepers_)
          is_keeper |= keeper == child;
        if (!is_keeper) strangers.push_back(child);
      }
      if (strangers.empty()) break;
      for (const pid_t stranger : strangers) {
        ::kill(stranger, SIGKILL);
        (void)::waitpid(stranger, nullptr, 0);
      }
    }
    SpawnReport report;
    report.id = id;
    report.is_keeper_lost = 1;
    (void)::send(fd_, &report, sizeof report, MSG_NOSIGNAL);
  }

  [[noreturn]] void leave() {
    for (const auto& [id, keeper] : keepers_)
      ::kill(keeper, kKillSignal);
    for (const auto& [id, keeper] : keepers_)
      (void)::waitpid(keeper, nullptr, 0);
    end_descendants();
    ::_exit(0);
  }

  int fd_;
  std::string buffer_;
  std::map<std::uint64_t, pid_t> keepers_;
};

}  // namespace

void run_spawner(int fd) {
  ::setsid();  // Ctrl-C at the terminal is the node's business
  ::prctl(PR_SET_NAME, "sluice-spawner");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t signals = kept_signals();
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  ::dup2(fd, 3);
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  ::close_range(4, ~0U, 0);
  SpawnerProcess(3).run();
}

}  // namespace sluice
