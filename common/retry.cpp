#include "common/retry.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/ids.h"

namespace sluice {

std::optional<RetryPolicy> retry_preset(std::string_view name) {
  if (name == "none") return RetryPolicy{.max_retries = 0};
  if (name == "standard") return RetryPolicy{};
  if (name == "patient")
    return RetryPolicy{.max_retries = 25,
                       .base_ms = 15'000,
                       .factor = 1.6,
                       .cap_ms = 24LL * 3600 * 1000,
                       .jitter = 0.2};
  return std::nullopt;
}

std::int64_t retry_delay_ms(const RetryPolicy& policy,
                            std::uint32_t retry,
                            std::uint64_t jitter_seed) {
  const double cap = static_cast<double>(std::min(policy.cap_ms, kTenYearsMs));
  // A power that overflows is infinite, and min() brings it back to the cap.
  const double grown = static_cast<double>(policy.base_ms) * std::pow(policy.factor, retry);
  const double base = std::min(std::isfinite(grown) ? grown : cap, cap);
  // 53 bits of the seed as a number in [-1, 1).
  const double unit = static_cast<double>(jitter_seed >> 11) * 0x1.0p-53 * 2.0 - 1.0;
  const double delay = base * (1.0 + policy.jitter * unit);
  return static_cast<std::int64_t>(std::clamp(delay, 1.0, static_cast<double>(kTenYearsMs)));
}

std::uint64_t jitter_seed(std::string_view job_id, std::uint32_t attempt) {
  std::string bytes(job_id);
  bytes.push_back('#');
  bytes += std::to_string(attempt);
  return hash64(bytes);
}

}  // namespace sluice
