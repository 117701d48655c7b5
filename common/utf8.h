// UTF-8 by RFC 3629: no surrogates, nothing over-long, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

// How many bytes the character takes that `text` begins with; 0 when it begins with none.
[[nodiscard]] std::size_t utf8_character(std::string_view text);
[[nodiscard]] bool is_utf8(std::string_view text);

// As much of UTF-8 as `bytes_max` take: a character is whole or left out.
[[nodiscard]] std::string_view utf8_head(std::string_view text, std::size_t bytes_max);

// One character that steers a terminal: below U+0020, U+007F, and U+0080 to U+009F, of which U+009B
// begins a sequence as ESC [ does. Tab and newline are among them.
[[nodiscard]] bool is_control(std::string_view character);

// Control characters but tab and newline, and bytes that are no UTF-8, made visible as \xNN, so
// that a text from elsewhere cannot steer the terminal it is shown on.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace sluice
