// Addresses of sockets as people write them.
#pragma once

#include <string_view>

namespace sluice {

enum class AddressUse : unsigned char {
  connect,  // ports 1 to 65535
  listen,   // also 0 and *, any that is free
};

// tcp://HOST:PORT, or ipc:///PATH. libzmq takes port 99999 for 34463 and says nothing.
[[nodiscard]] bool is_address(std::string_view text, AddressUse use);

// Whether the host can only be this machine: 127.x.y.z, localhost, ::1 (also in brackets). A name
// that merely begins like that may be anywhere.
[[nodiscard]] bool is_loopback_host(std::string_view host);

}  // namespace sluice
