#include "worker/core/text.h"

#include <algorithm>

#include "common/limits.h"

namespace sluice {

namespace {

// How many bytes the character at the head of `text` has; 0 when it is not one.
std::size_t character_bytes(std::string_view text) {
  const auto head = static_cast<unsigned char>(text.front());
  if (head < 0x80) return 1;
  const std::size_t bytes = head >= 0xf0 ? 4 : head >= 0xe0 ? 3 : 2;
  if (head < 0xc2 || head > 0xf4 || text.size() < bytes) return 0;
  const auto second = static_cast<unsigned char>(text[1]);
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if (head == 0xe0 && second < 0xa0) return 0;
  if (head == 0xed && second > 0x9f) return 0;
  if (head == 0xf0 && second < 0x90) return 0;
  if (head == 0xf4 && second > 0x8f) return 0;
  const bool is_continued = std::all_of(text.begin() + 1,
                                        text.begin() + static_cast<std::ptrdiff_t>(bytes),
                                        [](char c) { return (c & '\xc0') == '\x80'; });
  return is_continued ? bytes : 0;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
}

}  // namespace

std::string clean_text(std::string_view text, std::size_t bytes_max) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    const std::string_view next =
        bytes == 0 || is_control(text.front()) ? std::string_view("?") : text.substr(0, bytes);
    if (clean.size() + next.size() > bytes_max) break;
    clean += next;
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return clean;
}

std::string clean_code(std::string_view code) {
  std::string clean(code.substr(0, kErrorCodeBytesMax));
  for (char& c : clean) {
    const bool is_fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    if (!is_fine) c = '_';
  }
  return clean.empty() ? "failed" : clean;
}

}  // namespace sluice
