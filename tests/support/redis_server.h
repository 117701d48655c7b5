// A redis-server of a test's own: a unix socket in a directory of its own, nothing else of it
// anywhere. Ends with the object.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace sluice::test {

class RedisServer {
 public:
  // Starts it and waits until it answers (at most 5 s, then the test fails by exception).
  explicit RedisServer(std::vector<std::string> options = {});
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  [[nodiscard]] std::string socket() const { return directory_ + "/redis.sock"; }

  [[nodiscard]] std::string address() const { return "unix://" + socket(); }

  [[nodiscard]] pid_t pid() const { return pid_; }

  void start();
  void kill_hard();  // SIGKILL, and waits for its end

  // One command, for looking and for meddling; the reply as one line of text per element.
  [[nodiscard]] std::string ask(const std::vector<std::string>& arguments) const;

 private:
  std::vector<std::string> options_;
  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace sluice::test
