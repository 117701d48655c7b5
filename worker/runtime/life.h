// Who this process is: a node id that is new with every life, and the life before it, if a state
// directory remembers one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

class Life {
 public:
  Life(std::string node, std::string replaces, int lock_fd);
  ~Life();
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  [[nodiscard]] const std::string& node() const { return node_; }

  // The node id of the life before: it is dead, for we hold its lock. Or empty.
  [[nodiscard]] const std::string& replaces() const { return replaces_; }

 private:
  std::string node_;
  std::string replaces_;
  int lock_fd_;
};

// Locks the state directory (made if it is not there), reads the life before, kills the processes
// that it left behind (see sweep_processes) and writes down this life. Without a directory only a
// new id. Throws std::runtime_error with a sentence: not writable, locked by a living worker, or
// another's (its file `life` holds no node id).
[[nodiscard]] Life begin_life(std::string_view name, const std::string& state_dir);

// Marks this process, and all that it will start, as of `node`: what executes a program by
// SLUICE_NODE in the environment, what is only forked by a mapping of that name.
void mark_process(const std::string& node);

// Kills every process that carries the mark of `node`, until none is left or two seconds have
// passed. Returns how many were killed.
int sweep_processes(std::string_view node);

[[nodiscard]] std::string host_name();  // within the grammar of names
// CPUs that this process may use: its affinity, and the quota of its cgroup, rounded up.
[[nodiscard]] std::uint32_t cpu_count();

}  // namespace sluice
