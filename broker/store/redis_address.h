// Where a Redis is: `unix:///path`, or `redis://[user@]host[:port][/db]`.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace sluice {

struct RedisAddress {
  std::string path;  // of the unix socket; empty = TCP
  std::string host;
  int port = 6379;
  std::string user;
  int db = 0;

  [[nodiscard]] bool is_local() const;  // a unix socket or loopback
};

// Why a Redis on another machine is not used over a connection without encryption, unless
// redis_plaintext says so.
[[nodiscard]] std::string plaintext_refusal(const RedisAddress& address);

// Errors: bad_field. A password in the address is refused: it would stand in `ps`.
[[nodiscard]] Result<RedisAddress> parse_redis_address(std::string_view text);

}  // namespace sluice
