// Results within the bounds of the wire.
#pragma once

#include <cstdint>

#include "common/protocol/messages.h"

namespace sluice {

// Cleans code and text of a failed one. A completed one with more than `result_bytes_max` bytes
// becomes a failed one, `result_too_large`, never again: it is never cut silently.
[[nodiscard]] AttemptResult bounded(AttemptResult result, std::uint64_t result_bytes_max);

}  // namespace sluice
