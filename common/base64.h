// Base64 as in RFC 4648, with padding.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

[[nodiscard]] std::string base64_of(std::string_view bytes);
// Nothing for a text that is no base64.
[[nodiscard]] std::optional<std::string> bytes_of_base64(const std::string& text);

}  // namespace sluice
