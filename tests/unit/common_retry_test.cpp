#include <rapidcheck.h>

#include <cmath>
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "common/retry.h"

namespace sluice::common_retry_test {
namespace {

rc::Gen<RetryPolicy> any_policy() {
  return rc::gen::exec([] {
    RetryPolicy policy;
    policy.base_ms = *rc::gen::inRange<std::int64_t>(1, kTenYearsMs + 1);
    policy.base_ms >>= *rc::gen::inRange(0, 38);  // small ones as often as large ones
    policy.base_ms = std::max<std::int64_t>(1, policy.base_ms);
    policy.cap_ms = *rc::gen::inRange<std::int64_t>(policy.base_ms, kTenYearsMs + 1);
    policy.factor = 1.0 + *rc::gen::inRange(0, 9901) / 100.0;
    policy.jitter = *rc::gen::inRange(0, 101) / 100.0;
    return policy;
  });
}

TEST(Retry, delays_grow_to_the_cap_and_stay_there) {
  EXPECT_TRUE(rc::check([] {
    RetryPolicy policy = *any_policy();
    policy.jitter = 0;
    std::int64_t before = 0;
    for (std::uint32_t retry = 0; retry < kMaxRetriesMax; ++retry) {
      const std::int64_t delay = retry_delay_ms(policy, retry, 0);
      RC_ASSERT(delay >= before);
      RC_ASSERT(delay >= 1 && delay <= policy.cap_ms);
      before = delay;
    }
    if (policy.factor > 1.05 && policy.base_ms > 1) RC_ASSERT(before == policy.cap_ms);
    RC_ASSERT(retry_delay_ms(policy, 0, 0) == policy.base_ms);
  }));
}

TEST(Retry, jitter_stays_within_its_share) {
  EXPECT_TRUE(rc::check([](std::uint64_t seed) {
    const RetryPolicy policy = *any_policy();
    const auto retry = *rc::gen::inRange<std::uint32_t>(0, 1001);
    RetryPolicy plain = policy;
    plain.jitter = 0;
    const auto middle = static_cast<double>(retry_delay_ms(plain, retry, 0));
    const auto delay = static_cast<double>(retry_delay_ms(policy, retry, seed));
    // The middle was cut to whole milliseconds before.
    RC_ASSERT(delay >= std::max(1.0, std::floor(middle * (1 - policy.jitter))));
    RC_ASSERT(delay <= std::ceil((middle + 1) * (1 + policy.jitter)));
    RC_ASSERT(delay <= static_cast<double>(kTenYearsMs));
  }));
}

TEST(Retry, equal_inputs_give_equal_delays_and_seeds_spread_them) {
  const RetryPolicy policy;
  std::int64_t low = INT64_MAX;
  std::int64_t high = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint64_t seed = jitter_seed("job-" + std::to_string(i), 1);
    const std::int64_t delay = retry_delay_ms(policy, 0, seed);
    EXPECT_EQ(delay, retry_delay_ms(policy, 0, seed));
    low = std::min(low, delay);
    high = std::max(high, delay);
  }
  EXPECT_LT(low, 25'000);  // 30 s -20 %
  EXPECT_GT(high, 35'000);
}

TEST(Retry, a_seed_depends_on_the_job_and_the_attempt) {
  EXPECT_EQ(jitter_seed("a", 1), jitter_seed("a", 1));
  EXPECT_NE(jitter_seed("a", 1), jitter_seed("a", 2));
  EXPECT_NE(jitter_seed("a", 1), jitter_seed("b", 1));
  EXPECT_NE(jitter_seed("a1", 1), jitter_seed("a", 11));
}

TEST(Retry, no_policy_gives_less_than_a_millisecond_or_more_than_ten_years) {
  EXPECT_TRUE(rc::check([](std::uint64_t seed, std::uint32_t retry) {
    const RetryPolicy policy = *any_policy();
    const std::int64_t delay = retry_delay_ms(policy, retry, seed);
    RC_ASSERT(delay >= 1 && delay <= kTenYearsMs);
  }));
  EXPECT_EQ(retry_delay_ms({.base_ms = 1, .cap_ms = 1, .jitter = 1}, 0, 0), 1);
}

TEST(Retry, presets_have_the_numbers_of_the_specification) {
  EXPECT_EQ(retry_preset("none")->max_retries, 0U);
  EXPECT_EQ(*retry_preset("standard"), RetryPolicy{});
  EXPECT_EQ(retry_preset("patient")->max_retries, 25U);
  EXPECT_EQ(retry_preset("eager"), std::nullopt);
  std::int64_t patience_ms = 0;
  for (std::uint32_t retry = 0; retry < 25; ++retry)
    patience_ms += retry_delay_ms(*retry_preset("patient"), retry, UINT64_MAX / 2);
  constexpr std::int64_t kDayMs = 24LL * 3600 * 1000;
  EXPECT_GT(patience_ms, 7 * kDayMs);
  EXPECT_LT(patience_ms, 28 * kDayMs);
}

}  // namespace
}  // namespace sluice::common_retry_test
