// Time is an argument. Everything is in integer milliseconds; the unit is part of every name.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/limits.h"

namespace sluice {

// What a core is told about time with every event.
struct Now {
  std::int64_t mono_ms = 0;  // monotonic; durations (silence, time-outs, waits) run on it
  std::int64_t wall_ms = 0;  // milliseconds since the epoch, UTC; run_at and expires_at run on it
};

inline constexpr std::int64_t kNever = INT64_MAX;

// `base_ms` + `delay_ms`, saturating: never before base_ms, never more than ten years after it.
[[nodiscard]] constexpr std::int64_t after(std::int64_t base_ms, std::int64_t delay_ms) {
  return base_ms + std::clamp<std::int64_t>(delay_ms, 0, kTenYearsMs);
}

// A wall clock that follows the system's slowly. Durations come from the monotonic clock; the
// difference to the system's wall clock is worked off at 10 % of the time that passes, so a jump of
// the system clock makes nothing fire early by more than that slew.
// It never goes back. Not thread-safe.
class SlewedClock {
 public:
  static constexpr std::int64_t kJumpMs = 1000;  // a difference above this is reported as a jump

  SlewedClock(std::int64_t mono_ms, std::int64_t wall_ms) : mono_ms_(mono_ms), wall_ms_(wall_ms) {}

  // Returns the time now. `jumped` becomes true when the system's clock is more than kJumpMs away
  // from ours and was not before.
  Now update(std::int64_t mono_ms, std::int64_t system_wall_ms, bool& jumped);

 private:
  std::int64_t mono_ms_;
  std::int64_t wall_ms_;
  std::int64_t slew_credit_ms_ = 0;  // passed and not yet used for slewing
  bool is_away_ = false;
};

}  // namespace sluice
