// The connections of a CurlLoop: how many are open and how many of these idle, and which socket is
// which connection.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace sluice {

struct HttpConnections {
  static constexpr std::int64_t kIdleMax = 256;  // kept open for later calls

  std::int64_t open = 0;
  std::int64_t used = 0;    // by a call each, which has one or will have
  std::int64_t ending = 0;  // of these, by calls that have their answer but are not over

  [[nodiscard]] std::int64_t idle() const { return open - used; }

  // By their ends, which is all that libcurl says of the one that a request is about to use.
  std::unordered_map<std::string, int> socket_of;
  std::unordered_map<int, std::string> ends_of;

  void remember(int fd, const std::string& ends);
  void forget(int fd);
};

[[nodiscard]] bool has_local_port(int fd, int port);

// Or its end: whatever came while nothing was asked is not the answer to what is asked next, and
// this libcurl would take it for that.
[[nodiscard]] bool has_input(int fd);

}  // namespace sluice
