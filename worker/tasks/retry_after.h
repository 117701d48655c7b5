// The Retry-After header (RFC 9110, 10.2.3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice {

// Milliseconds from `wall_ms` on: seconds, or an HTTP date in any of its three forms. A date that
// has passed is 0; nothing for anything else. At most ten years.
[[nodiscard]] std::optional<std::int64_t> parse_retry_after(const std::string& value,
                                                            std::int64_t wall_ms);

}  // namespace sluice
