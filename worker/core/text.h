// Text that leaves the worker: what a handler or a program said may be any bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

// Valid UTF-8 of at most `bytes_max` bytes, never cut inside a character. Bytes that are no UTF-8,
// and control characters but for newline and tab, become '?'.
[[nodiscard]] std::string clean_text(std::string_view text, std::size_t bytes_max);

// An error code within the grammar of names, `failed` when nothing is left.
[[nodiscard]] std::string clean_code(std::string_view code);

}  // namespace sluice
