#include "common/address.h"

#include <charconv>

namespace sluice {

bool is_address(std::string_view text, AddressUse use) {
  constexpr std::string_view kIpc = "ipc://";
  constexpr std::string_view kTcp = "tcp://";
  if (text.starts_with(kIpc)) return text.size() > kIpc.size();
  const std::size_t colon = text.rfind(':');
  if (!text.starts_with(kTcp) || colon <= kTcp.size()) return false;
  const std::string_view port = text.substr(colon + 1);
  if (use == AddressUse::listen && port == "*") return true;
  unsigned number = 0;
  const char* const end = port.data() + port.size();
  const auto read = std::from_chars(port.data(), end, number);
  const unsigned least = use == AddressUse::listen ? 0 : 1;
  return read.ec == std::errc() && read.ptr == end && number >= least && number <= 65'535;
}

bool is_loopback_host(std::string_view host) {
  return host == "localhost" || host == "::1" || host == "[::1]" ||
         (host.starts_with("127.") &&
          host.find_first_not_of("0123456789.") == std::string_view::npos);
}

}  // namespace sluice
