#include "common/nesting.h"

#include <cstdint>
#include <vector>

namespace sluice {

namespace {

// What one msgpack head says: bytes to skip behind it, and values nested in it.
struct Head {
  std::size_t bytes = 0;
  std::uint64_t children = 0;
  bool is_nested = false;  // an array or a map, be it empty
};

std::uint64_t big_endian(std::string_view text, std::size_t at, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < size && at + i < text.size(); ++i)
    number = number << 8 | static_cast<unsigned char>(text[at + i]);
  return number;
}

Head read_head(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80 || byte >= 0xe0) return {1, 0};
  if (byte < 0x90) return {1, std::uint64_t{2} * (byte & 0x0fU), true};
  if (byte < 0xa0) return {1, byte & 0x0fU, true};
  if (byte < 0xc0) return {1 + (byte & 0x1fU), 0};
  const auto sized = [&](std::size_t width, std::size_t extra) {
    return Head{1 + width + extra + big_endian(text, at + 1, width), 0};
  };
  switch (byte) {
    case 0xc4:
    case 0xd9:
      return sized(1, 0);
    case 0xc5:
    case 0xda:
      return sized(2, 0);
    case 0xc6:
    case 0xdb:
      return sized(4, 0);
    case 0xc7:
      return sized(1, 1);
    case 0xc8:
      return sized(2, 1);
    case 0xc9:
      return sized(4, 1);
    case 0xcc:
    case 0xd0:
      return {2, 0};
    case 0xcd:
    case 0xd1:
      return {3, 0};
    case 0xca:
    case 0xce:
    case 0xd2:
      return {5, 0};
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return {9, 0};
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
      return {2 + (std::size_t{1} << (byte - 0xd4)), 0};
    case 0xdc:
      return {3, big_endian(text, at + 1, 2), true};
    case 0xdd:
      return {5, big_endian(text, at + 1, 4), true};
    case 0xde:
      return {3, 2 * big_endian(text, at + 1, 2), true};
    case 0xdf:
      return {5, 2 * big_endian(text, at + 1, 4), true};
    default:
      return {1, 0};
  }
}

}  // namespace

bool is_json_within(std::string_view text, std::size_t depth_max) {
  std::size_t depth = 0;
  bool is_quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (is_quoted && c == '\\')
      ++at;
    else if (c == '"')
      is_quoted = !is_quoted;
    else if (!is_quoted && (c == '[' || c == '{') && ++depth > depth_max)
      return false;
    else if (!is_quoted && (c == ']' || c == '}') && depth > 0)
      --depth;
  }
  return true;
}

bool is_msgpack_within(std::string_view text, std::size_t depth_max) {
  std::vector<std::uint64_t> open;
  for (std::size_t at = 0; at < text.size();) {
    const Head head = read_head(text, at);
    if (head.bytes > text.size() - at) return false;
    at += head.bytes;
    if (!open.empty()) --open.back();
    // Empty ones count as well, as in JSON.
    if (head.is_nested) open.push_back(head.children);
    if (open.size() > depth_max) return false;
    while (!open.empty() && open.back() == 0)
      open.pop_back();
  }
  return open.empty();
}

}  // namespace sluice
