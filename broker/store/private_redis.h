// A Redis of the broker's own, in its data directory: what is used without --redis.
//
// The directory is locked; a second broker is refused. A server that lives there is adopted, so
// that a killed broker finds its Redis again at once, and one that does not answer is waited for:
// the server holds a lock of its own, so that there are never two on the same files. Else one is
// started: append-only, unix socket, no TCP, in a session of its own so that Ctrl-C does not reach
// it before the broker. Whoever else listens at its socket is never spoken to: the kernel says
// which process that is.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"

namespace sluice {

class PrivateRedis {
 public:
  // Waits so long, or until this process is told to stop: whether it was.
  using Pause = std::function<bool(std::chrono::milliseconds)>;

  // `directory` is made when it is not there. A server that lives without its socket, which nobody
  // can reach, is ended first. Errors: conflict (another broker has it, with its pid), bad_field
  // (not writable), internal (redis-server is not installed, ends at once, or such a one stays; its
  // socket is another process'), store_unavailable (`pause` said to stop before it answered; it was
  // ended).
  [[nodiscard]] static Result<std::unique_ptr<PrivateRedis>> start(const std::string& directory,
                                                                   Pause pause);
  // Leaves the server running: a killed broker does not take its Redis along. stop() ends it.
  ~PrivateRedis();
  PrivateRedis(const PrivateRedis&) = delete;
  PrivateRedis& operator=(const PrivateRedis&) = delete;

  // Usually in the directory; a short path elsewhere when that would be too long for a socket.
  [[nodiscard]] const std::string& socket() const { return socket_; }

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] bool is_adopted() const { return is_adopted_; }

  // Whether the one that was found at the start did not answer then: busy, stopped, or hanging.
  [[nodiscard]] bool is_silent() const { return is_silent_; }

  // Before its first answer: starts it again if it was killed. Error: internal, with the last line
  // of its log, when it ended by itself, as for files that it cannot read.
  [[nodiscard]] Result<void> keep_up();

  // To be called while the connection is down: starts it again if it has died. Does not wait.
  // Whether it was started.
  bool check();

  // Why the process at the other end of this connection is not to be used, or nothing: it is not
  // our server.
  [[nodiscard]] std::string complaint(int fd) const;

  // How the one before ended, in words.
  [[nodiscard]] const std::string& last_end() const { return last_end_; }

  enum class Stopped : std::uint8_t {
    ended,
    silent,  // it lives, and ends as soon as it goes on, or is through
    left,    // another broker has taken over the state in it, and uses it
  };

  // Ends the server, its files complete, unless another than `owner` (empty: nobody) has the state;
  // returns when it is gone, after 4 s at most.
  [[nodiscard]] Stopped stop(const std::string& owner);

 private:
  PrivateRedis(std::string directory, std::string socket, int lock, Pause pause);

  [[nodiscard]] bool is_alive();
  // Adopts the server that lives there, if one does; else there is none.
  [[nodiscard]] Result<void> find();
  [[nodiscard]] Error gave_up() const;
  // Whether our server answers; it has our settings then.
  [[nodiscard]] bool adopt();
  [[nodiscard]] Result<void> spawn();
  [[nodiscard]] Result<void> wait_for_answer();

  std::string directory_;
  std::string socket_;
  int lock_;
  Pause pause_;
  pid_t pid_ = -1;
  bool is_adopted_ = false;
  bool is_silent_ = false;
  bool has_given_up_ = false;  // ended with an error of its own
  std::string last_end_ = "it was ended";
  std::chrono::steady_clock::time_point ask_again_;  // for a stranger at the socket
};

// $XDG_STATE_HOME/sluice, else ~/.local/state/sluice; empty when the environment names no absolute
// directory: state must not end up in whatever directory a program is started from.
[[nodiscard]] std::string default_data_directory();

}  // namespace sluice
