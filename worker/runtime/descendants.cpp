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
#include <utility>

#include "worker/runtime/process_handle.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

struct Held {
  pid_t pid = 0;
  UniqueFd fd;
};

bool is_there(const UniqueFd& process) {
  return process.is_open() && send_signal(process, 0) == 0;
}

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

}  // namespace

std::vector<pid_t> children_of_self() {
  return children_of("self");
}

// Its name, in brackets, may hold anything.
pid_t parent_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  const std::size_t at = text.rfind(") ");
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + std::min(at + 4, text.size()));
}

namespace {

// A child of ours, first, and what is seen below it. The number of one that has ended may be
// another's, a stranger's, a moment later. So each is held by a descriptor first, and believed to
// be below us if the one above it is there still after it was seen there.
std::vector<Held> tree_of(pid_t child) {
  std::vector<Held> tree;
  tree.push_back({child, hold_process(child)});
  for (std::size_t i = 0; i < tree.size(); ++i) {
    const pid_t parent = tree[i].pid;
    for (const pid_t pid : children_of(std::to_string(parent))) {
      UniqueFd held = hold_process(pid);
      const bool is_below = parent_of(pid) == parent && is_there(tree[i].fd);
      if (held.is_open() && is_below) tree.push_back({pid, std::move(held)});
    }
  }
  return tree;
}

}  // namespace

void kill_tree(pid_t child) {
  const std::vector<Held> tree = tree_of(child);
  ::kill(child, SIGKILL);  // its number is its own until we have waited for it
  for (const Held& process : tree)
    if (process.fd.is_open()) (void)send_signal(process.fd, SIGKILL);
}

void kill_below(pid_t child) {
  const std::vector<Held> tree = tree_of(child);
  for (std::size_t i = 1; i < tree.size(); ++i)
    (void)send_signal(tree[i].fd, SIGKILL);
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
