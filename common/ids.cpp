#include "common/ids.h"

#include <sodium.h>

#include <algorithm>

namespace sluice {

namespace {

constexpr std::array<unsigned char, crypto_shorthash_siphashx24_KEYBYTES> kHashKey = {
    's', 'l', 'u', 'i', 'c', 'e', ' ', 'i', 'd', 's', ' ', 'v', '1', 0, 0, 0};

constexpr bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-';
}

// One look-up per character: ids and names are checked for every job.
constexpr auto kNameChars = [] {
  std::array<bool, 256> table{};
  for (unsigned c = 0; c < table.size(); ++c)
    table[c] = is_name_char(static_cast<char>(c));
  return table;
}();

bool are_name_chars(std::string_view text, char also) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return kNameChars[static_cast<unsigned char>(c)] || c == also;
  });
}

const unsigned char* as_bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

bool is_job_id(std::string_view text) {
  return !text.empty() && text.size() <= kIdBytesMax && are_name_chars(text, ':');
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && are_name_chars(text, '_');
}

bool is_node_id(std::string_view text) {
  const auto at = text.find('@');
  if (at == std::string_view::npos || text.size() > kNodeIdBytesMax) return false;
  return is_name(text.substr(0, at)) && is_name(text.substr(at + 1));
}

std::string Fence::str() const {
  return std::to_string(epoch) + "." + std::to_string(attempt);
}

std::string make_uuid_v7(std::int64_t wall_ms, std::span<const std::uint8_t, 10> random) {
  std::array<std::uint8_t, 16> bytes{};
  const auto ms = static_cast<std::uint64_t>(wall_ms);
  for (unsigned i = 0; i < 6; ++i)
    bytes[i] = static_cast<std::uint8_t>(ms >> (8 * (5 - i)));
  std::copy(random.begin(), random.end(), bytes.begin() + 6);
  bytes[6] = static_cast<std::uint8_t>(0x70 | (bytes[6] & 0x0f));  // version 7
  bytes[8] = static_cast<std::uint8_t>(0x80 | (bytes[8] & 0x3f));  // variant of RFC 9562
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text.push_back('-');
    text.push_back(kHex[bytes[i] >> 4]);
    text.push_back(kHex[bytes[i] & 0x0f]);
  }
  return text;
}

std::uint64_t hash64(std::string_view bytes) {
  static_assert(crypto_shorthash_BYTES == sizeof(std::uint64_t));
  std::uint64_t hash = 0;
  crypto_shorthash(reinterpret_cast<unsigned char*>(&hash),
                   as_bytes(bytes),
                   bytes.size(),
                   kHashKey.data());
  return hash;
}

IdHash hash_id(std::string_view id) {
  static_assert(crypto_shorthash_siphashx24_BYTES == sizeof(IdHash));
  IdHash hash;
  crypto_shorthash_siphashx24(reinterpret_cast<unsigned char*>(&hash),
                              as_bytes(id),
                              id.size(),
                              kHashKey.data());
  return hash;
}

}  // namespace sluice
