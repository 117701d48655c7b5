#include "worker/runtime/keeper.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <string_view>
#include <utility>

#include "worker/runtime/cgroup.h"
#include "worker/runtime/descendants.h"
#include "worker/runtime/inherited.h"
#include "worker/runtime/packet.h"
#include "worker/runtime/program_start.h"
#include "worker/runtime/spawn_report.h"
#include "worker/runtime/spawner_wire.h"

namespace sluice {

namespace {

// Its texts stay in the packet.
ProgramOrder read_order(const KeeperHead& head, PacketReader& packet) {
  ProgramOrder order;
  order.tells_start = head.tells_start != 0;
  char* at = packet.data() + sizeof head;
  const char* const end = packet.data() + packet.bytes().size();
  std::memcpy(&order.limits, at, sizeof order.limits);
  at += sizeof order.limits;
  const auto next = [&at] {
    char* text = at;
    at += std::strlen(text) + 1;
    return text;
  };
  order.cwd = next();
  order.user = next();
  for (std::uint32_t i = 0; i < head.argument_count; ++i)
    order.argv.push_back(next());
  while (at < end)
    order.environment.push_back(next());
  order.argv.push_back(nullptr);
  order.environment.push_back(nullptr);
  return order;
}

class Keeper {
 public:
  Keeper(std::uint64_t id, int orders_fd, int reports_fd, const std::optional<CgroupPlace>& groups)
      : id_(id), orders_fd_(orders_fd), reports_fd_(reports_fd), groups_(groups) {}

  [[noreturn]] void run() {
    const sigset_t signals = kept_signals();
    const UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    while (true) {
      std::array<pollfd, 2> items{{{signal_fd.get(), POLLIN, 0}, {orders_fd_, POLLIN, 0}}};
      (void)::poll(items.data(), items.size(), -1);
      signalfd_siginfo info{};
      while (items[0].revents != 0 && ::read(signal_fd.get(), &info, sizeof info) > 0)
        if (info.ssi_signo == kLeaveSignal) leave(true);
      if (items[0].revents != 0) reap();
      if (items[1].revents != 0) serve();
    }
  }

 private:
  void serve() {
    const Received received = packet_.receive(orders_fd_);
    if (received == Received::end) leave(false);
    if (received == Received::nothing) return;
    KeeperHead head;
    std::memcpy(&head, packet_.bytes().data(), sizeof head);
    if (head.op == KeeperOp::run) return start(head);
    if (head.id != report_.id || program_ < 0) return;
    const int signal = head.op == KeeperOp::kill ? SIGKILL : SIGTERM;
    ::kill(-program_, signal);
    if (signal == SIGKILL) ::kill(program_, signal);  // it may have left its group
  }

  void start(const KeeperHead& head) {
    report_ = {.id = head.id, .keeper = id_};
    left_ = {};
    const std::array<UniqueFd, kPacketFdsMax> fds = packet_.take_fds();
    ProgramOrder order = read_order(head, packet_);
    for (std::size_t i = 0; i < fds.size(); ++i)
      order.fds[i] = fds[i].get();
    const int error = packet_.has_lost_fds() ? EMFILE : take_group(order);
    const Started started =
        error != 0 ? Started{-1, error} : start_program(order, report_, reports_fd_, stack_);
    program_ = started.pid;
    report_.exec_errno = started.error;
    report_.is_cwd_refused = started.is_cwd_refused ? 1 : 0;
    if (program_ < 0) tell();
  }

  // 0, or an errno.
  int take_group(ProgramOrder& order) {
    is_in_group_ = groups_ && (order.limits.memory_bytes != 0 || order.limits.processes != 0);
    if (!is_in_group_) return 0;
    if (!group_.is_made()) {
      auto made = Cgroup::make(*groups_);
      if (!made) return made.error();
      group_ = std::move(*made);
    }
    order.group = &group_;
    const int error = group_.begin(order.limits.take_for_group());
    if (error != 0) group_.remove();
    return error;
  }

  // Orphans are reaped on the way. The program's group is killed while its number is still its own.
  void reap() {
    while (const pid_t pid = ended_child()) {
      if (pid == program_) ::kill(-program_, SIGKILL);
      int status = 0;
      rusage usage{};
      (void)::wait4(pid, &status, 0, &usage);
      if (pid == program_)
        end(status, spent_of(usage));
      else
        left_.add(spent_of(usage));
    }
  }

  // 0: none that has not been waited for.
  static pid_t ended_child() {
    siginfo_t info{};
    return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? info.si_pid : 0;
  }

  void end(int status, const Spent& spent) {
    program_ = -1;
    report_.take_end(status, spent);
    rusage own{};
    ::getrusage(RUSAGE_SELF, &own);
    report_.take_keeper_peak(spent_of(own).rss_bytes_max);
    left_.add(end_descendants());
    report_.take_left(left_);
    if (is_in_group_) {
      report_.take_group(group_.usage());
      if (group_.is_worn()) group_.remove();
    }
    tell();
  }

  [[noreturn]] void leave(bool is_spawner_lost) {
    if (program_ > 0) ::kill(-program_, SIGKILL);
    report_.take_left(end_descendants());
    report_.is_spawner_lost = is_spawner_lost ? 1 : 0;
    group_.remove();
    if (program_ > 0) tell();
    ::_exit(0);
  }

  void tell() const {
    while (::send(reports_fd_, &report_, sizeof report_, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
  }

  const std::uint64_t id_;
  const int orders_fd_;
  const int reports_fd_;
  const std::optional<CgroupPlace> groups_;
  Cgroup group_;  // made for the first program that wants one
  bool is_in_group_ = false;
  PacketReader packet_;
  const StartStack stack_;
  pid_t program_ = -1;
  SpawnReport report_;  // of the program that runs
  Spent left_;          // of what it left behind
};

}  // namespace

sigset_t kept_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, kLeaveSignal})
    sigaddset(&signals, signal);
  return signals;
}

void run_keeper(std::uint64_t id,
                int orders_fd,
                int reports_fd,
                pid_t spawner,
                const std::optional<CgroupPlace>& groups) {
  ::setsid();
  ::prctl(PR_SET_NAME, "sluice-keeper");
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_PDEATHSIG, kLeaveSignal);
  if (::getppid() != spawner) ::_exit(0);
  keep_only({orders_fd, reports_fd});
  default_signals();
  try {
    Keeper(id, orders_fd, reports_fd, groups).run();
  } catch (const std::exception&) {  // no memory: it was lost, as the spawner will tell
    ::_exit(1);
  }
}

}  // namespace sluice
