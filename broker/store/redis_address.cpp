#include "broker/store/redis_address.h"

#include <charconv>

#include "common/address.h"

namespace sluice {

namespace {

bool read_int(std::string_view text, int max, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= max;
}

// What stands before an @ may be a password, and is not repeated.
tl::unexpected<Error> bad(std::string_view text, std::string_view why) {
  const auto at = text.rfind('@');
  const std::string shown =
      at == text.npos ? std::string(text) : "..." + std::string(text.substr(at));
  return fail(
      ErrorCode::bad_field,
      "redis",
      std::string(why) + ": " + shown + " (unix:///path or redis://[user@]host[:port][/db])");
}

}  // namespace

bool RedisAddress::is_local() const {
  return !path.empty() || is_loopback_host(host);
}

std::string plaintext_refusal(const RedisAddress& address) {
  return address.host +
         " is another machine and the connection is not encrypted: use a tunnel, or say "
         "redis_plaintext = true";
}

Result<RedisAddress> parse_redis_address(std::string_view text) {
  RedisAddress address;
  std::string_view rest = text;
  if (rest.starts_with("unix://")) {
    address.path = rest.substr(7);
    if (address.path.empty() || address.path[0] != '/') return bad(text, "no absolute path");
    return address;
  }
  if (!rest.starts_with("redis://")) return bad(text, "not an address of a Redis");
  rest.remove_prefix(8);
  if (const auto at = rest.rfind('@'); at != rest.npos) {
    address.user = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    if (address.user.find(':') != std::string::npos)
      return fail(ErrorCode::bad_field,
                  "redis",
                  "a password does not belong into the address: give it in "
                  "SLUICE_REDIS_PASSWORD or a file");
  }
  if (const auto slash = rest.find('/'); slash != rest.npos) {
    const std::string_view db = rest.substr(slash + 1);
    if (!db.empty() && !read_int(db, 1'000'000, address.db)) return bad(text, "not a database");
    rest = rest.substr(0, slash);
  }
  const auto bracket = rest.find(']');
  const auto colon = rest.find(':', bracket == rest.npos ? 0 : bracket);
  if (colon != rest.npos) {
    if (!read_int(rest.substr(colon + 1), 65535, address.port) || address.port == 0)
      return bad(text, "not a port");
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  if (rest.empty()) return bad(text, "no host");
  address.host = rest;
  return address;
}

}  // namespace sluice
