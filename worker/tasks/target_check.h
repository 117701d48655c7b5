// Where a worker may call: a job names the URL, so the worker decides which addresses are open to
// it. Without a rule only public addresses are; the address is judged when a connection is made or
// used again, not the name, so a name that resolves to an inner address is refused too.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace sluice {

// An http or https URL, taken apart. `origin` is scheme://host:port in lower case, always with the
// port.
struct Target {
  std::string url;
  std::string host;
  std::string origin;
};

// Errors: bad_field (no URL, another scheme, a user or password in it).
[[nodiscard]] Result<Target> parse_target(const std::string& url);
// `url` as seen from `base` (RFC 3986); an absolute one stands for itself. Errors as parse_target.
[[nodiscard]] Result<Target> join_target(const std::string& base, const std::string& url);
// For people: the URL without its query and fragment, which may carry credentials.
[[nodiscard]] std::string shown_target(const std::string& url);

// An IPv4 address is kept as ::ffff:a.b.c.d, so that one comparison serves both.
using AddressBytes = std::array<std::uint8_t, 16>;

class TargetRules {
 public:
  // `allow`: networks ("10.0.0.0/8", "::1/128"), addresses, or host names that may resolve to
  // anything. Errors: bad_field with the entry.
  [[nodiscard]] static Result<TargetRules> parse(const std::vector<std::string>& allow);

  // May a call for `host` connect to this address?
  [[nodiscard]] bool allows(std::string_view host, const sockaddr* address) const;
  [[nodiscard]] bool allows(std::string_view host, const std::string& numeric_address) const;

 private:
  struct Network {
    AddressBytes bytes{};
    unsigned prefix_bits = 0;
  };

  [[nodiscard]] bool allows(std::string_view host, const AddressBytes& address) const;

  std::vector<Network> networks_;
  std::vector<std::string> hosts_;
};

}  // namespace sluice
