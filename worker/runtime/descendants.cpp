#include "worker/runtime/descendants.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

namespace sluice {

std::vector<pid_t> children_of_self() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream file(thread.path() / "children");
    for (pid_t pid = 0; file >> pid;)
      pids.push_back(pid);
  }
  return pids;
}

Spent end_descendants() {
  Spent spent;
  while (true) {
    for (const pid_t pid : children_of_self())
      ::kill(pid, SIGKILL);
    rusage usage{};
    const pid_t pid = ::wait4(-1, nullptr, 0, &usage);
    if (pid > 0) spent.add(spent_of(usage));
    if (pid < 0 && errno == ECHILD) return spent;
  }
}

}  // namespace sluice
