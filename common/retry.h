// Whether a failed attempt is tried again, and when.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/limits.h"

namespace sluice {

// Retries after the first attempt. Bounds: max_retries 0..1000, base_ms 1..ten years,
// factor 1..100, cap_ms base_ms..ten years, jitter 0..1.
struct RetryPolicy {
  std::uint32_t max_retries = kMaxRetriesDefault;
  std::int64_t base_ms = kBackoffBaseDefaultMs;
  double factor = 2.0;
  std::int64_t cap_ms = kBackoffCapDefaultMs;
  double jitter = 0.2;
  friend bool operator==(const RetryPolicy&, const RetryPolicy&) = default;
};

// `none` (0 retries), `standard` (3), `patient` (25 retries, base 15 s, factor 1.6, cap 24 h: about
// three weeks in all). Nothing for any other name.
[[nodiscard]] std::optional<RetryPolicy> retry_preset(std::string_view name);

// Back-off before retry `retry` (0-based): base * factor^retry up to the cap, then +/- jitter drawn
// from `jitter_seed`, so equal inputs give equal delays. Never fails; 1 ms to ten years.
[[nodiscard]] std::int64_t retry_delay_ms(const RetryPolicy& policy,
                                          std::uint32_t retry,
                                          std::uint64_t jitter_seed);

// The seed for a job's attempt: hash of (id, attempt).
[[nodiscard]] std::uint64_t jitter_seed(std::string_view job_id, std::uint32_t attempt);

}  // namespace sluice
