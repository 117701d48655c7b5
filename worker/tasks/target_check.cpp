#include "worker/tasks/target_check.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include <curl/curl.h>

#include "worker/tasks/ascii.h"

namespace sluice {

namespace {

constexpr unsigned kMappedBits = 96;  // of ::ffff:0:0/96

AddressBytes mapped(const in_addr& address) {
  AddressBytes bytes{};
  bytes[10] = bytes[11] = 0xff;
  std::memcpy(bytes.data() + 12, &address, 4);
  return bytes;
}

std::optional<AddressBytes> parse_address(const std::string& text, bool& is_v4) {
  in_addr v4{};
  is_v4 = inet_pton(AF_INET, text.c_str(), &v4) == 1;
  if (is_v4) return mapped(v4);
  AddressBytes bytes{};
  // A scope (fe80::1%eth0) says where, not what.
  if (inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

bool lies_in(const AddressBytes& address, const AddressBytes& network, unsigned prefix_bits) {
  const std::size_t whole = prefix_bits / 8;
  if (!std::equal(address.begin(),
                  address.begin() + static_cast<std::ptrdiff_t>(whole),
                  network.begin()))
    return false;
  const unsigned rest = prefix_bits % 8;
  return rest == 0 || ((address[whole] ^ network[whole]) >> (8 - rest)) == 0;
}

struct Reserved {
  const char* network;
  unsigned prefix_bits;
};

// Not public: this host, private, shared, link-local, documentation, multicast, reserved; and the
// IPv6 forms that stand for an IPv4 address behind a translator or tunnel.
constexpr Reserved kReserved[] = {
    {"0.0.0.0", 8},      {"10.0.0.0", 8},    {"100.64.0.0", 10},   {"127.0.0.0", 8},
    {"169.254.0.0", 16}, {"172.16.0.0", 12}, {"192.0.0.0", 24},    {"192.0.2.0", 24},
    {"192.168.0.0", 16}, {"198.18.0.0", 15}, {"198.51.100.0", 24}, {"203.0.113.0", 24},
    {"224.0.0.0", 3},    {"::", 96},         {"64:ff9b::", 96},    {"64:ff9b:1::", 48},
    {"100::", 64},       {"2001::", 32},     {"2001:db8::", 32},   {"2002::", 16},
    {"fc00::", 7},       {"fe80::", 10},     {"fec0::", 10},       {"ff00::", 8}};

bool is_public(const AddressBytes& address) {
  return std::none_of(std::begin(kReserved), std::end(kReserved), [&](const Reserved& reserved) {
    bool is_v4 = false;
    const auto network = parse_address(reserved.network, is_v4);
    return lies_in(address, *network, reserved.prefix_bits + (is_v4 ? kMappedBits : 0));
  });
}

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string result(text);
  curl_free(text);
  return result;
}

Result<Target> take_apart(CURLU* url) {
  const std::string scheme = lower(part_of(url, CURLUPART_SCHEME));
  if (scheme != "http" && scheme != "https")
    return fail(ErrorCode::bad_field, "url", "a URL begins with http:// or https://");
  if (!part_of(url, CURLUPART_USER).empty() || !part_of(url, CURLUPART_PASSWORD).empty())
    return fail(ErrorCode::bad_field, "url", "a URL must not carry a user or password");
  Target target;
  target.host = lower(part_of(url, CURLUPART_HOST));
  if (target.host.size() > 2 && target.host.front() == '[')
    target.host = target.host.substr(1, target.host.size() - 2);
  if (target.host.empty()) return fail(ErrorCode::bad_field, "url", "the URL names no host");
  target.origin =
      scheme + "://" + target.host + ":" + part_of(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  curl_url_set(url, CURLUPART_FRAGMENT, nullptr, 0);
  target.url = part_of(url, CURLUPART_URL);
  return target;
}

}  // namespace

Result<Target> parse_target(const std::string& url) {
  return join_target({}, url);
}

Result<Target> join_target(const std::string& base, const std::string& url) {
  const Url handle(curl_url(), curl_url_cleanup);
  constexpr unsigned kFlags = CURLU_URLENCODE;
  for (const std::string* text : {&base, &url}) {
    if (text->empty()) continue;
    if (curl_url_set(handle.get(), CURLUPART_URL, text->c_str(), kFlags) != CURLUE_OK)
      return fail(ErrorCode::bad_field, "url", "this is not an http or https URL");
  }
  return take_apart(handle.get());
}

std::string shown_target(const std::string& url) {
  return url.substr(0, url.find_first_of("?#"));
}

Result<TargetRules> TargetRules::parse(const std::vector<std::string>& allow) {
  TargetRules rules;
  for (const std::string& entry : allow) {
    const std::size_t slash = entry.find('/');
    bool is_v4 = false;
    const auto address = parse_address(entry.substr(0, slash), is_v4);
    if (!address && slash == std::string::npos && !entry.empty() &&
        entry.find_first_of(" :@") == std::string::npos) {
      rules.hosts_.push_back(lower(entry));
      continue;
    }
    const unsigned bits_max = is_v4 ? 32 : 128;
    unsigned bits = bits_max;
    bool is_good = address.has_value();
    if (slash != std::string::npos) {
      const char* end = entry.data() + entry.size();
      const auto [at, error] = std::from_chars(entry.data() + slash + 1, end, bits);
      is_good = is_good && error == std::errc{} && at == end && bits <= bits_max;
    }
    if (!is_good)
      return fail(ErrorCode::bad_field, "allow", "\"" + entry + "\" is no network or host name");
    rules.networks_.push_back({*address, bits + (is_v4 ? kMappedBits : 0)});
  }
  return rules;
}

bool TargetRules::allows(std::string_view host, const AddressBytes& address) const {
  return is_public(address) || std::find(hosts_.begin(), hosts_.end(), host) != hosts_.end() ||
         std::any_of(networks_.begin(), networks_.end(), [&](const Network& network) {
           return lies_in(address, network.bytes, network.prefix_bits);
         });
}

bool TargetRules::allows(std::string_view host, const sockaddr* address) const {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address, sizeof v4);
    return allows(host, mapped(v4.sin_addr));
  }
  if (address->sa_family != AF_INET6) return false;
  sockaddr_in6 v6{};
  std::memcpy(&v6, address, sizeof v6);
  AddressBytes bytes{};
  std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
  return allows(host, bytes);
}

bool TargetRules::allows(std::string_view host, const std::string& numeric_address) const {
  bool is_v4 = false;
  const auto address = parse_address(numeric_address, is_v4);
  return address && allows(host, *address);
}

}  // namespace sluice
