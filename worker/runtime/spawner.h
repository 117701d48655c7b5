// Child processes. One spawner process per node, forked before the node has a thread, a socket or a
// ZeroMQ context, is the ancestor of every program that runs.
//
// Each program has a small *keeper* process between itself and the spawner. The keeper is a child
// subreaper: whatever the program leaves behind, by double fork or a session of its own, becomes
// the keeper's child, so that "nothing of it is left" is exact and needs no marks on processes.
// (Rejected: one subreaper for all, which cannot tell whose orphan it holds once its environment is
// wiped.) When the program has ended, the keeper kills its group and every descendant, waits for
// the last one, and only then reports.
//
// When the node's end of the socket closes, also by SIGKILL, the spawner ends every keeper with all
// below it, and itself; when the spawner dies, the keepers do the same by parent-death signal.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace sluice {

struct SpawnRequest {
  std::uint64_t id = 0;
  std::vector<std::string> argv;         // argv[0] is looked up in PATH
  std::vector<std::string> environment;  // the whole of it, NAME=value
  std::string cwd;                       // empty = the node's
  int stdin_fd = -1;                     // passed on; stays the caller's
  int stdout_fd = -1;
  int stderr_fd = -1;
};

// The program has ended and nothing of it is left. Sent as it stands between the processes.
struct SpawnReport {
  std::uint64_t id = 0;
  std::int32_t wait_status = 0;  // as of waitpid
  std::int32_t exec_errno = 0;   // not 0: it never ran
  std::int64_t cpu_ms = 0;       // of the program and everything it waited for
  std::int64_t rss_bytes_max = 0;
  std::int32_t is_keeper_lost = 0;   // somebody killed the keeper: the status is not known
  std::int32_t is_spawner_lost = 0;  // ended because the spawner died, through no fault of its own
};

class Spawner {
 public:
  // Bytes of argv, environment and working directory together.
  static constexpr std::size_t kRequestBytesMax = 128 * 1024;

  // Forks. Throws std::runtime_error, with a sentence, when the process has more than one thread.
  Spawner();
  ~Spawner();
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }

  // Readable when there are reports, or when the spawner is gone.
  [[nodiscard]] int fd() const { return fd_; }

  // Asks for a program. 0, or why not, as errno (nothing happens then): E2BIG for more than
  // kRequestBytesMax, EMFILE without descriptors.
  [[nodiscard]] int spawn(const SpawnRequest& request);
  void terminate(std::uint64_t id);  // SIGTERM to the program's group
  void kill(std::uint64_t id);       // SIGKILL to the group and every descendant

  // Appends the reports at hand. False when the spawner is gone.
  [[nodiscard]] bool read(std::vector<SpawnReport>& reports);
  // Sends what the socket had no room for.
  void flush();

  [[nodiscard]] bool has_backlog() const { return !backlog_.empty(); }

  // Ends the spawner and everything below it, and waits for that.
  void close();

 private:
  struct Packet {
    std::string bytes;
    std::vector<int> fds;  // duplicates, closed when sent
  };

  void send(Packet packet);
  bool try_send(const Packet& packet);

  int fd_ = -1;
  pid_t pid_ = -1;
  std::deque<Packet> backlog_;
};

}  // namespace sluice
