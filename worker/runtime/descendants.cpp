#include "worker/runtime/descendants.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace sluice {

namespace {

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
};

// One that is gone meanwhile has none.
std::vector<pid_t> children_of(const std::string& process) {
  std::vector<pid_t> pids;
  std::error_code error;
  std::filesystem::directory_iterator thread("/proc/" + process + "/task", error);
  for (; !error && thread != std::filesystem::directory_iterator(); thread.increment(error)) {
    std::ifstream file(thread->path() / "children");
    for (pid_t pid = 0; file >> pid;)
      pids.push_back(pid);
  }
  return pids;
}

// 0 when there is no such process. Its name, in brackets, may hold anything.
pid_t parent_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  const std::size_t at = text.rfind(") ");
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + std::min(at + 4, text.size()));
}

}  // namespace

std::vector<pid_t> children_of_self() {
  return children_of("self");
}

void kill_tree(pid_t child) {
  const pid_t self = ::getpid();
  std::vector<Process> tree{{child, self}};
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const pid_t parent = tree[i].pid;
    for (const pid_t pid : children_of(std::to_string(parent)))
      tree.push_back({pid, parent});
  }
  // The number of one that has ended may be another's by now, somebody's who is none of ours.
  for (const Process& process : tree) {
    const pid_t parent = parent_of(process.pid);
    if (parent == process.parent || parent == self) ::kill(process.pid, SIGKILL);
  }
}

// Whole trees, for a fork bomb outruns one that kills its own children only: what those leave takes
// their places before it is ours. Again, for what was forked while we looked.
Spent end_descendants() {
  Spent spent;
  const auto wait_for = [&spent](pid_t which, int flags) {
    rusage usage{};
    const pid_t pid = ::wait4(which, nullptr, flags, &usage);
    if (pid > 0) spent.add(spent_of(usage));
    return pid;
  };
  while (true) {
    const std::vector<pid_t> children = children_of_self();
    for (const pid_t child : children)
      kill_tree(child);
    for (const pid_t child : children)
      (void)wait_for(child, 0);
    if (wait_for(-1, children.empty() ? 0 : WNOHANG) < 0 && errno == ECHILD) return spent;
  }
}

}  // namespace sluice
