// A Redis of the broker's own, in its data directory: what is used without --redis.
//
// The directory is locked; a second broker is refused. A server that answers on the socket there is
// adopted, so that a killed broker finds its Redis again at once; else one is started: append-only,
// unix socket, no TCP, in a session of its own so that Ctrl-C does not reach it before the broker.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "common/result.h"

namespace sluice {

class PrivateRedis {
 public:
  // `directory` is made when it is not there. Errors: denied (another broker has it, with its pid),
  // bad_field (not writable), internal (redis-server is not installed, or ends at once).
  [[nodiscard]] static Result<std::unique_ptr<PrivateRedis>> start(const std::string& directory);
  // Leaves the server running: a killed broker does not take its Redis along. stop() ends it.
  ~PrivateRedis();
  PrivateRedis(const PrivateRedis&) = delete;
  PrivateRedis& operator=(const PrivateRedis&) = delete;

  // Usually in the directory; a short path elsewhere when that would be too long for a socket.
  [[nodiscard]] const std::string& socket() const { return socket_; }

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] bool is_adopted() const { return is_adopted_; }

  // To be called while the connection is down: starts it again if it has died. Does not wait.
  // Whether it was started.
  bool check();

  // Ends the server with a save; returns when it is gone, after 4 s at most.
  void stop();

 private:
  PrivateRedis(std::string directory, std::string socket, int lock);

  [[nodiscard]] bool is_alive();
  // Whether a server with our settings answers; its pid then is ours.
  [[nodiscard]] bool adopt();
  [[nodiscard]] Result<void> spawn();
  [[nodiscard]] Result<void> wait_for_answer();

  std::string directory_;
  std::string socket_;
  int lock_;
  pid_t pid_ = -1;
  bool is_adopted_ = false;
};

// $XDG_STATE_HOME/sluice, else ~/.local/state/sluice.
[[nodiscard]] std::string default_data_directory();

}  // namespace sluice
