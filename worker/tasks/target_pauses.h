// Pauses that targets ask for: a 429 with Retry-After holds for every call to its origin. Pure;
// times are monotonic milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/time.h"

namespace sluice {

class TargetPauses {
 public:
  static constexpr std::int64_t kPauseMaxMs = 3'600'000;  // more than that is not heeded
  static constexpr std::size_t kOriginsMax = 10'000;      // beyond, others are not paused

  // The longest of what was asked for an origin holds. Whether it is longer than it was.
  bool note(const std::string& origin, std::int64_t asked_ms, std::int64_t now_ms);

  // Until when the origin is paused, or nothing.
  [[nodiscard]] std::optional<std::int64_t> until_ms(std::string_view origin) const;

  // Forgets those that are over.
  void end(std::int64_t now_ms);

  // When the next one is over; kNever without one.
  [[nodiscard]] std::int64_t next_end_ms() const;

 private:
  std::map<std::string, std::int64_t, std::less<>> until_ms_;
};

}  // namespace sluice
