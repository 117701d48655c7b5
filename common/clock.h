// Reads the machine's clocks, for what is not a pure core (a core is told the time).
#pragma once

#include <chrono>
#include <cstdint>

#include "common/time.h"

namespace sluice {

// Never goes back; durations run on it.
[[nodiscard]] inline std::int64_t monotonic_ms() {
  using std::chrono::duration_cast, std::chrono::milliseconds, std::chrono::steady_clock;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

// Since the epoch, UTC; may jump.
[[nodiscard]] inline std::int64_t wall_clock_ms() {
  using std::chrono::duration_cast, std::chrono::milliseconds, std::chrono::system_clock;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

[[nodiscard]] inline Now clock_now() {
  return {monotonic_ms(), wall_clock_ms()};
}

}  // namespace sluice
