#include "worker/runtime/inherited.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>

namespace sluice {

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

void default_signals() {
  for (int signal = 1; signal < NSIG; ++signal)
    ::signal(signal, SIG_DFL);
}

void unblock_signals() {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace sluice
