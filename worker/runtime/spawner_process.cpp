// Runs in a process that never has a second thread.
#include "worker/runtime/spawner_process.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "worker/runtime/cgroup.h"
#include "worker/runtime/descendants.h"
#include "worker/runtime/inherited.h"
#include "worker/runtime/keeper.h"
#include "worker/runtime/packet.h"
#include "worker/runtime/process_meter.h"
#include "worker/runtime/spawn_report.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/spawner_wire.h"

namespace sluice {

namespace {

// ---------------------------------------------------------------- the isolate

struct IsolateOrder {
  ProgramLimits limits;
  const Cgroup* group = nullptr;  // which it enters, or none
  std::string handler;
  IsolateEnds ends;
};

// Texts are NUL-terminated.
IsolateOrder read_isolate(std::string_view packet, const std::array<UniqueFd, kPacketFdsMax>& fds) {
  IsolateOrder order;
  std::memcpy(&order.limits, packet.data() + sizeof(SpawnerHead), sizeof order.limits);
  order.handler = packet.data() + sizeof(SpawnerHead) + sizeof order.limits;
  order.ends = {fds[0].get(), fds[1].get(), fds[2].get()};
  return order;
}

constexpr int kIsolateFailed = 70;  // EX_SOFTWARE

// One pipe of the node's. Lines come as they are printed; what the program had printed before it
// was a node, and not written, is no job's. The stream has a buffer of its own, for in the one that
// it had it would go on without lines.
void take_output(int pipe) {
  static std::array<char, BUFSIZ> buffer;
  ::dup2(pipe, STDOUT_FILENO);
  ::dup2(pipe, STDERR_FILENO);
  ::__fpurge(stdout);
  (void)std::setvbuf(stdout, buffer.data(), _IOLBF, buffer.size());
}

// A subreaper, so that it can tell after every job whether something was left behind.
[[noreturn]] void become_isolate(const IsolateOrder& order,
                                 const IsolateMain& isolate_main,
                                 pid_t spawner) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != spawner) ::_exit(0);
  if (order.group != nullptr && order.group->enter() != 0) ::_exit(127);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_NAME, "sluice-isolate");
  take_output(order.ends.output);
  keep_only({order.ends.jobs, order.ends.notes});
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, 0);
  ::close(nothing);
  default_signals();
  unblock_signals();
  ::signal(SIGPIPE, SIG_IGN);  // as in a node
  ProgramLimits lasting = order.limits;
  lasting.cpu_s = 0;  // of every job anew
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (apply_limits(lasting) != 0) ::_exit(127);
  try {
    isolate_main(order.ends.jobs, order.ends.notes, order.handler, order.limits);
  } catch (const std::exception& error) {  // it must not go on as a second node
    std::fprintf(stderr, "isolate of %s: %s\n", order.handler.c_str(), error.what());
    ::_exit(kIsolateFailed);
  }
  ::_exit(0);
}

// ---------------------------------------------------------------- the spawner

class SpawnerProcess {
 public:
  SpawnerProcess(const std::vector<int>& fds,
                 const IsolateMain& isolate_main,
                 const std::optional<CgroupPlace>& groups)
      : isolate_main_(isolate_main), groups_(groups), fds_(fds) {}

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
    Cgroup group = {};  // of an isolate

    void end() const { tell(is_isolate ? SIGKILL : kLeaveSignal); }

    // A program of the keeper's own user may have stopped it: it goes on, to hear this.
    void tell(int signal) const {
      ::kill(pid, signal);
      ::kill(pid, SIGCONT);
    }
  };

  // One packet. False when the node is gone, or needs the channel no more.
  bool serve(int fd) {
    const Received received = packet_.receive(fd);
    if (received != Received::packet) return received == Received::nothing;
    SpawnerHead head;
    std::memcpy(&head, packet_.bytes().data(), sizeof head);
    switch (head.op) {
      case SpawnerOp::keeper:
      case SpawnerOp::isolate:
        start(fd, head);
        break;
      case SpawnerOp::resume:
      case SpawnerOp::kill:
        tell(fd, head);
        break;
      case SpawnerOp::channel:
        if (UniqueFd far_end = std::move(packet_.take_fds()[0]); far_end.is_open())
          fds_.push_back(far_end.release());
    }
    return true;
  }

  void tell(int fd, const SpawnerHead& head) const {
    for (const Child& child : children_) {
      if (child.fd != fd || child.id != head.id) continue;
      if (head.op == SpawnerOp::kill) free_from_below(child);
      child.tell(child.is_isolate ? SIGKILL : SIGCONT);
    }
  }

  // What a keeper runs may have stopped it, and may do so again. One that is not stopped hears by
  // itself what it is told, and may have the next program by now.
  static void free_from_below(const Child& child) {
    if (!child.is_isolate && is_stopped(child.pid)) kill_below(child.pid);
  }

  static bool is_stopped(pid_t child) {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == child;
  }

  void start(int fd, const SpawnerHead& head) {
    const std::array<UniqueFd, kPacketFdsMax> fds = packet_.take_fds();
    Child child{fd, head.id, -1, head.op == SpawnerOp::isolate};
    if (packet_.has_lost_fds()) return refuse(child, EMFILE);
    IsolateOrder isolate;
    if (child.is_isolate) isolate = read_isolate(packet_.bytes(), fds);
    if (const int error = take_group(isolate, child); error != 0) return refuse(child, error);
    const pid_t self = ::getpid();
    child.pid = ::fork();
    if (child.pid == 0 && child.is_isolate) become_isolate(isolate, isolate_main_, self);
    if (child.pid == 0) run_keeper(child.id, fds[0].get(), fd, self, groups_);
    if (child.pid < 0) return refuse(child, errno);
    children_.push_back(std::move(child));
  }

  // 0, or an errno.
  int take_group(IsolateOrder& isolate, Child& child) const {
    if (!groups_ || isolate.limits.memory_bytes == 0) return 0;
    auto made = Cgroup::make(*groups_);
    if (!made) return made.error();
    child.group = std::move(*made);
    isolate.group = &child.group;
    return child.group.begin(isolate.limits.take_for_group());
  }

  static void refuse(Child& child, int error) {
    child.group.remove();
    SpawnReport report = report_of(child);
    report.exec_errno = error;
    tell(child, report);
  }

  static SpawnReport report_of(const Child& child) {
    return child.is_isolate ? SpawnReport{.id = child.id} : SpawnReport{.keeper = child.id};
  }

  static void tell(const Child& child, const SpawnReport& report) {
    (void)::send(child.fd, &report, sizeof report, MSG_NOSIGNAL);
  }

  // A keeper that was killed has left what it held to us, as an isolate has what it started. None
  // of it may live on when its end is told. What of it ended by itself before is booked to the next
  // one whose end is told: mostly the one that had it.
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
      Child ended = std::move(*it);
      children_.erase(it);
      const bool was_let_go = !ended.is_isolate && WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (!was_let_go) report_end(ended, status, spent_of(usage));
    }
  }

  void report_end(Child& ended, int status, const Spent& spent) {
    end_strangers();
    SpawnReport report = report_of(ended);
    if (ended.is_isolate)
      report.take_end(status, spent);
    else
      report.is_keeper_lost = 1;
    report.take_left(std::exchange(strangers_, {}));
    if (!ended.is_isolate) report.rss_bytes_max = 0;  // a program's, and copies of the node
    end_group(ended, report);
    tell(ended, report);
  }

  // That of a lost keeper is nobody's now.
  void end_group(Child& ended, SpawnReport& report) const {
    if (ended.group.is_made()) {
      report.take_group(ended.group.usage());
      ended.group.remove();
    } else if (groups_ && !ended.is_isolate) {
      (void)sweep_cgroups(*groups_);
    }
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
    for (const Child& child : children_) {
      if (child.fd != fd) continue;
      free_from_below(child);
      child.end();
    }
    for (Child& child : children_) {
      if (child.fd != fd) continue;
      (void)::waitpid(child.pid, nullptr, 0);
      child.group.remove();
    }
    std::erase_if(children_, [&](const Child& child) { return child.fd == fd; });
    end_strangers();
    std::erase(fds_, fd);
    ::close(fd);
  }

  const IsolateMain& isolate_main_;
  const std::optional<CgroupPlace> groups_;
  std::vector<int> fds_;
  PacketReader packet_;
  std::vector<Child> children_;  // few: one for each process that runs
  Spent strangers_;              // of children that we did not start, since the last report
};

}  // namespace

void run_spawner(const std::vector<int>& fds,
                 const IsolateMain& isolate_main,
                 const std::optional<CgroupPlace>& groups) {
  ::setsid();  // Ctrl-C at the terminal is the node's business
  ::prctl(PR_SET_NAME, "sluice-spawner");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t signals = kept_signals();
  ::sigprocmask(SIG_SETMASK, &signals, nullptr);
  keep_only(fds);
  SpawnerProcess(fds, isolate_main, groups).run();
}

}  // namespace sluice
