#include "worker/runtime/program_start.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

#include "worker/runtime/inherited.h"

namespace sluice {

namespace {

// execvp wants room for a path, and for a copy of argv when it meets a script without "#!": of
// kPacketBytesMax one-letter arguments half a megabyte.
constexpr std::size_t kStackBytes = 1u << 20;

// Shared with the process that is started.
struct Start {
  const ProgramOrder* order = nullptr;
  const ProgramUser* user = nullptr;
  SpawnReport report;
  int report_fd = -1;
  int error = 0;
  bool is_cwd_refused = false;
};

// 0, or an errno.
int confine(Start& start) {
  const Cgroup* group = start.order->group;
  if (const int error = group == nullptr ? 0 : group->enter(); error != 0) return error;
  if (const int error = become_user(*start.user); error != 0) return error;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of the user takes it away
  start.is_cwd_refused = *start.order->cwd != '\0' && ::chdir(start.order->cwd) != 0;
  if (start.is_cwd_refused) return errno;
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  return apply_limits(start.order->limits);
}

// Nothing but system calls: the memory is the keeper's, which waits meanwhile. What it leaves open
// above its own descriptors is closed by exec.
int run_start(void* argument) {
  Start& start = *static_cast<Start*>(argument);
  const ProgramOrder& order = *start.order;
  ::setsid();
  if (order.tells_start) {
    start.report.started_pid = ::getpid();
    (void)::send(start.report_fd, &start.report, sizeof start.report, MSG_NOSIGNAL);
  }
  for (int target = 0; target < 4; ++target) {
    const int fd = order.fds[static_cast<std::size_t>(target)];
    if (fd == target)
      ::fcntl(fd, F_SETFD, 0);
    else if (fd >= 0)
      ::dup2(fd, target);
    else
      ::close(target);
  }
  unblock_signals();
  start.error = confine(start);
  if (start.error != 0) return 127;
  ::execvpe(order.argv[0], order.argv.data(), order.environment.data());
  start.error = errno;
  return 127;
}

}  // namespace

StartStack::StartStack()
    : bottom_(::mmap(nullptr,
                     kStackBytes,
                     PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK,
                     -1,
                     0)) {
  if (bottom_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
}

StartStack::~StartStack() {
  ::munmap(bottom_, kStackBytes);
}

void* StartStack::top() const {
  return static_cast<char*>(bottom_) + kStackBytes;
}

Started start_program(const ProgramOrder& order,
                      const SpawnReport& start_report,
                      int report_fd,
                      const StartStack& stack) {
  ProgramUser user;
  if (const int error = find_user(order.user, user); error != 0) return {-1, error};
  Start start{&order, &user, start_report, report_fd};
  const pid_t pid = ::clone(run_start, stack.top(), CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  if (pid < 0) return {-1, errno};
  return {pid, start.error, start.is_cwd_refused};
}

}  // namespace sluice
