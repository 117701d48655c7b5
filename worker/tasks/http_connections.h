// The connections of a CurlLoop, each of one call at a time: how many of them are idle, and which
// socket is which connection. Kept by what libcurl says of its sockets. No sockets of its own.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_map>

namespace sluice {

class HttpConnections {
 public:
  static constexpr std::size_t kIdleMax = 256;  // kept open for later calls

  // A socket was made for a call, and is used by it until set_used() says otherwise.
  void opened(int fd);
  void closed(int fd);

  // Other sockets (of a name lookup) are ignored.
  void set_used(int fd, bool is_used);

  // Whether a connection whose call ends now may be kept.
  [[nodiscard]] bool has_room_for_idle() const { return idle_count_ < kIdleMax; }

  // A call that has a connection or will have one; until it is over.
  void call_began() { ++call_count_; }

  void call_ended() { --call_count_; }

  // Whether there may be an idle one for the next call, beside what those before it will take.
  [[nodiscard]] bool has_one_to_spare() const { return of_fd_.size() > call_count_; }

  // By their ends, which is all that libcurl says of the one that a request is about to use.
  void remember(int fd, const std::string& ends);

  // Whether something has come on it, or its end: whatever came while nothing was asked is not the
  // answer to what is asked next, and this libcurl would take it for that.
  [[nodiscard]] bool has_input(const std::string& ends) const;

 private:
  struct Connection {
    std::string ends;
    bool is_used = true;
  };

  std::unordered_map<int, Connection> of_fd_;
  std::unordered_map<std::string, int> fd_of_ends_;
  std::size_t idle_count_ = 0;
  std::size_t call_count_ = 0;
};

[[nodiscard]] bool has_local_port(int fd, int port);

}  // namespace sluice
