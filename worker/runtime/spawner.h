// Child processes. One spawner process per node, forked before the node has a thread, a socket or a
// ZeroMQ context, is the ancestor of every program and of every isolate.
//
// A program has a small *keeper* process between itself and the spawner. The keeper is a child
// subreaper: whatever the program leaves behind, by double fork or a session of its own, becomes
// the keeper's child, so that "nothing of it is left" is exact and needs no marks on processes.
// (Rejected: one subreaper for all, which cannot tell whose orphan it holds once its environment is
// wiped.) When the program has ended, the keeper kills its group and every descendant, waits for
// the last one, and only then reports. It is used again: the node gives it the next program over a
// socket of its own, and the keeper starts it as posix_spawn would, without a copy of itself. So a
// job costs one process, not two, and the spawner has no part in it.
//
// An isolate is its own keeper while it lives, and a child of the spawner itself. What it leaves at
// its death becomes the spawner's, who has no other children that it did not start, and kills them.
//
// When the node's ends of the sockets close, also by SIGKILL, the keepers and the spawner end
// everything below them, and themselves; when the spawner dies, the keepers do the same by
// parent-death signal, and isolates die, of which what they had started may be left: the node
// sweeps by marks then (life.h).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "worker/runtime/cgroup_place.h"
#include "worker/runtime/packet.h"
#include "worker/runtime/program_limits.h"
#include "worker/runtime/spawn_report.h"
#include "worker/runtime/spawner_wire.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

struct SpawnRequest {
  std::uint64_t id = 0;                  // not 0
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

// What an isolate has of its node: the far ends of two sockets (isolate_wire.h), and where its
// standard output and error go.
struct IsolateEnds {
  int jobs = -1;
  int notes = -1;
  int output = -1;
};

// What an isolate does. Called in a process forked from the spawner, which has no descriptor but
// the three standard ones and these two; when it returns, the process ends with exit code 0.
// `limits` are in force already, but for its CPU time, which is its own to count. `handler` is what
// it was asked to run, by its name.
using IsolateMain = std::function<void(
    int jobs_fd, int notes_fd, const std::string& handler, const ProgramLimits& limits)>;

constexpr std::int64_t kKillAgainMs = 1'000;

// One runtime's line to the spawner. Its ids are its own.
class SpawnerChannel {
 public:
  // Keepers that wait for a program; a node that is busy has them at work.
  static constexpr std::size_t kIdleKeepersMax = 64;

  explicit SpawnerChannel(int fd) : fd_(fd) {}

  // Whom close() may kill; set when it is forked.
  void set_spawner(pid_t pid) { spawner_ = pid; }

  ~SpawnerChannel();
  SpawnerChannel(const SpawnerChannel&) = delete;
  SpawnerChannel& operator=(const SpawnerChannel&) = delete;

  // Readable when there are reports, or when the spawner is gone.
  [[nodiscard]] int fd() const { return fd_; }

  // Asks for a program. 0, or why not, as errno (nothing happens then): E2BIG for more than
  // kPacketBytesMax, EMFILE without descriptors.
  [[nodiscard]] int spawn(const SpawnRequest& request);
  // Asks for an isolate with these ends, which stay the caller's. As spawn().
  [[nodiscard]] int isolate(std::uint64_t id,
                            const std::string& handler,
                            const ProgramLimits& limits,
                            const IsolateEnds& ends);
  void terminate(std::uint64_t id);  // SIGTERM to the program's group
  // SIGKILL to the group and every descendant. To be repeated after kKillAgainMs while no end is
  // told: a program may stop its keeper just when that was to hear of it.
  void kill(std::uint64_t id);
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
  struct Keeper {
    UniqueFd line;              // over which it is given programs
    std::uint64_t program = 0;  // 0: it waits for one
  };

  // What had no room.
  struct Packet {
    int to = -1;
    std::string bytes;
    std::vector<UniqueFd> fds;  // duplicates
  };

  // A number of one that waits, or 0 with errno.
  [[nodiscard]] std::uint64_t take_keeper();
  [[nodiscard]] std::uint64_t start_keeper();
  void free_keeper(std::uint64_t keeper);
  void drop_keeper(std::uint64_t keeper);
  void tell_keeper(std::uint64_t keeper, std::uint64_t program, KeeperOp op);
  void take(SpawnReport report, std::vector<SpawnReport>& reports);

  void tell_spawner(SpawnerOp op, std::uint64_t id);
  // 0, or an errno: then it will not be sent.
  [[nodiscard]] int send(int to, std::string bytes, const std::vector<int>& fds);

  void ask_to_end();

  // Whether the spawner has closed its end by then.
  [[nodiscard]] bool has_ended_within(int patience_ms) const;

  int fd_ = -1;
  pid_t spawner_ = -1;
  std::deque<Packet> backlog_;
  std::unordered_map<std::uint64_t, Keeper> keepers_;
  std::unordered_map<std::uint64_t, std::uint64_t> keeper_of_;  // by program
  std::vector<std::uint64_t> idle_;                             // keepers; the last is taken first
  std::uint64_t last_keeper_ = 0;
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

  // Where programs and isolates are held to their limits by cgroups; before fork().
  void set_groups(std::optional<CgroupPlace> groups) { groups_ = std::move(groups); }

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
  std::optional<CgroupPlace> groups_;
  pid_t pid_ = -1;
  bool is_settled_ = false;
};

}  // namespace sluice
