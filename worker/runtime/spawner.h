// Child processes. One spawner process per node, forked before the node has a thread, a socket or a
// ZeroMQ context, is the ancestor of every program and of every isolate.
//
// A program has a small *keeper* process between itself and the spawner. The keeper is a child
// subreaper: whatever the program leaves behind, by double fork or a session of its own, becomes
// the keeper's child, so that "nothing of it is left" is exact and needs no marks on processes.
// (Rejected: one subreaper for all, which cannot tell whose orphan it holds once its environment is
// wiped.) When the program has ended, the keeper kills its group and every descendant, waits for
// the last one, and only then reports.
//
// An isolate is its own keeper while it lives, and a child of the spawner itself. What it leaves at
// its death becomes the spawner's, who has no other children that it did not start, and kills them.
//
// When the node's ends of the sockets close, also by SIGKILL, the spawner ends everything below it,
// and itself; when the spawner dies, the keepers do the same by parent-death signal, and isolates
// die, of which what they had started may be left: the node sweeps by marks then (life.h).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/runtime/program_limits.h"

namespace sluice {

struct SpawnRequest {
  std::uint64_t id = 0;
  std::vector<std::string> argv;         // argv[0] is looked up in PATH
  std::vector<std::string> environment;  // the whole of it, NAME=value
  std::string cwd;                       // empty = the node's
  std::string user{};                    // empty = the node's
  ProgramLimits limits{};
  int stdin_fd = -1;  // passed on; stays the caller's
  int stdout_fd = -1;
  int stderr_fd = -1;
  int progress_fd = -1;      // its descriptor 3; -1 = it has none
  bool tells_start = false;  // a report comes when it begins, too
};

// The program or isolate has ended and nothing of it is left; or, with a `started_pid`, it begins.
// Sent as it stands between the processes.
struct SpawnReport {
  std::uint64_t id = 0;
  std::int32_t started_pid = 0;  // not 0: no end, all else says nothing
  std::int32_t wait_status = 0;  // as of waitpid
  std::int32_t exec_errno = 0;   // not 0: it never ran
  std::int64_t cpu_ms = 0;       // of the program and everything it waited for
  std::int64_t left_cpu_ms = 0;  // of what it left behind
  // The greatest of them. 0: not known, for a program that had no more than the copy of the node
  // from which it was made, which the system counts as its own.
  std::int64_t rss_bytes_max = 0;
  std::int32_t is_keeper_lost = 0;   // somebody killed the keeper: the status is not known
  std::int32_t is_spawner_lost = 0;  // ended because the spawner died, through no fault of its own
};

// What an isolate does. Called in a process forked from the spawner, which has no descriptor but
// the three standard ones and these two; when it returns, the process ends with exit code 0.
// `limits` are in force already, but for its CPU time, which is its own to count. `handler` is what
// it was asked to run, by its name.
using IsolateMain = std::function<void(
    int jobs_fd, int notes_fd, const std::string& handler, const ProgramLimits& limits)>;

// One runtime's line to the spawner. Its ids are its own.
class SpawnerChannel {
 public:
  // Bytes of argv, environment and working directory together.
  static constexpr std::size_t kRequestBytesMax = 128u * 1024;

  explicit SpawnerChannel(int fd) : fd_(fd) {}

  // Whom close() may kill; set when it is forked.
  void set_spawner(pid_t pid) { spawner_ = pid; }

  ~SpawnerChannel();
  SpawnerChannel(const SpawnerChannel&) = delete;
  SpawnerChannel& operator=(const SpawnerChannel&) = delete;

  // Readable when there are reports, or when the spawner is gone.
  [[nodiscard]] int fd() const { return fd_; }

  // Asks for a program. 0, or why not, as errno (nothing happens then): E2BIG for more than
  // kRequestBytesMax, EMFILE without descriptors.
  [[nodiscard]] int spawn(const SpawnRequest& request);
  // Asks for an isolate with these ends of its sockets, which stay the caller's. As spawn().
  [[nodiscard]] int isolate(std::uint64_t id,
                            const std::string& handler,
                            const ProgramLimits& limits,
                            int jobs_fd,
                            int notes_fd);
  void terminate(std::uint64_t id);  // SIGTERM to the program's group
  void kill(std::uint64_t id);       // SIGKILL to the group and every descendant
  // Gives the spawner the far end of another channel, which stays the caller's. 0, or an errno.
  [[nodiscard]] int add_channel(int far_end);

  // Appends the reports at hand. False when the spawner is gone.
  [[nodiscard]] bool read(std::vector<SpawnReport>& reports);
  // Sends what the socket had no room for.
  void flush();

  [[nodiscard]] bool has_backlog() const { return !backlog_.empty(); }

  // Ends everything that was started over this channel, and waits for that. A spawner that does not
  // do it within two seconds (somebody stopped it) is killed, which ends everything as well.
  void close();
  // The same where nothing runs that anybody waits for: the spawner is not killed.
  void close_idle();

 private:
  struct Packet {
    std::string bytes;
    std::vector<int> fds;  // duplicates, closed when sent
  };

  [[nodiscard]] int send_with(std::string bytes, const std::vector<int>& fds);
  void send(Packet packet);
  bool try_send(const Packet& packet);

  void ask_to_end();

  // Whether the spawner has closed its end by then.
  [[nodiscard]] bool has_ended_within(int patience_ms) const;

  int fd_ = -1;
  pid_t spawner_ = -1;
  std::deque<Packet> backlog_;
};

// The process. Channels are opened first, then it is forked, and more of them later if there was
// one; it ends when all of them are closed.
class Spawner {
 public:
  Spawner() = default;
  ~Spawner();  // closes what is left and waits for the process
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;

  // Belongs to this spawner, which must outlive its users. Throws std::runtime_error, with a
  // sentence, when there are no descriptors, and after a fork() that had no channel.
  [[nodiscard]] SpawnerChannel& open_channel();

  // What isolates do; before fork(). At most one for a spawner.
  void set_isolate_main(IsolateMain isolate_main) { isolate_main_ = std::move(isolate_main); }

  // Once; nothing when there is no channel. Throws std::runtime_error, with a sentence, when the
  // process has more than one thread.
  void fork();

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] bool is_settled() const { return is_settled_; }  // fork() was called

  [[nodiscard]] std::size_t channel_count() const { return channels_.size(); }

  // Of a table that came to nothing: ends the channels after the first `count`.
  void drop_channels(std::size_t count);

 private:
  struct Ends {
    int near = -1;
    int far = -1;
  };

  [[nodiscard]] static Ends make_ends();

  std::unique_ptr<SpawnerChannel> control_;  // over which others are opened later
  std::vector<std::unique_ptr<SpawnerChannel>> channels_;
  std::vector<int> far_ends_;
  IsolateMain isolate_main_;
  pid_t pid_ = -1;
  bool is_settled_ = false;
};

}  // namespace sluice
