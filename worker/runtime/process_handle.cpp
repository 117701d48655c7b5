#include "worker/runtime/process_handle.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/clock.h"

namespace sluice {

UniqueFd hold_process(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

int send_signal(const UniqueFd& process, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0));
}

bool has_ended_by(const UniqueFd& process, std::int64_t mono_ms) {
  while (true) {
    const std::int64_t left_ms = std::max<std::int64_t>(mono_ms - monotonic_ms(), 0);
    pollfd item{process.get(), POLLIN, 0};
    const int count = ::poll(&item, 1, static_cast<int>(left_ms));
    if (count >= 0 || errno != EINTR) return count > 0;
  }
}

}  // namespace sluice
