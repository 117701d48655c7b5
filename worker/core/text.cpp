#include "worker/core/text.h"

#include <algorithm>

#include "common/limits.h"
#include "common/utf8.h"

namespace sluice {

std::string clean_text(std::string_view text, std::size_t bytes_max) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t bytes = utf8_character(text);
    std::string_view next = bytes == 0 ? "?" : text.substr(0, bytes);
    if (is_control(next) && next != "\n" && next != "\t") next = "?";
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
