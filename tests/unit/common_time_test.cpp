#include <rapidcheck.h>

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "common/time.h"

namespace sluice::common_time_test {
namespace {

constexpr std::int64_t kStart = 1'764'025'200'000;

TEST(Time, after_saturates_for_any_delay) {
  EXPECT_EQ(after(100, 5), 105);
  EXPECT_EQ(after(100, 0), 100);
  EXPECT_EQ(after(100, -1), 100);
  EXPECT_EQ(after(100, INT64_MIN), 100);
  EXPECT_EQ(after(100, INT64_MAX), 100 + kTenYearsMs);
}

TEST(SlewedClock, follows_a_system_clock_that_runs_as_it_should) {
  SlewedClock clock(1000, kStart);
  bool jumped = true;
  for (std::int64_t ms = 0; ms < 5000; ms += 7) {
    const Now now = clock.update(1000 + ms, kStart + ms, jumped);
    EXPECT_FALSE(jumped);
    EXPECT_EQ(now.mono_ms, 1000 + ms);
    EXPECT_EQ(now.wall_ms, kStart + ms);
  }
}

// Whatever the system's clock says: within 10 % of the time that really passed, and never back.
TEST(SlewedClock, moves_at_most_a_tenth_faster_or_slower_and_never_back) {
  EXPECT_TRUE(rc::check([] {
    SlewedClock clock(0, kStart);
    std::int64_t mono = 0;
    Now before{0, kStart};
    const int steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
      mono += *rc::gen::inRange<std::int64_t>(0, 2000);
      const std::int64_t away = *rc::gen::inRange<std::int64_t>(-kTenYearsMs, kTenYearsMs);
      bool jumped = false;
      const Now now = clock.update(mono, kStart + mono + away, jumped);
      RC_ASSERT(now.mono_ms == mono);
      RC_ASSERT(now.wall_ms >= before.wall_ms);
      before = now;
      const std::int64_t drift = now.wall_ms - kStart - mono;
      RC_ASSERT(drift <= mono / 10 && drift >= -(mono / 10 + 1));
    }
  }));
}

TEST(SlewedClock, a_jump_of_years_is_told_once_and_worked_off_slowly) {
  for (const std::int64_t jump : {kTenYearsMs, -kTenYearsMs}) {
    SlewedClock clock(0, kStart);
    int told = 0;
    Now now;
    for (std::int64_t ms = 10; ms <= 60'000; ms += 10) {
      bool jumped = false;
      now = clock.update(ms, kStart + ms + jump, jumped);
      told += jumped ? 1 : 0;
    }
    EXPECT_EQ(told, 1);
    EXPECT_EQ(now.wall_ms - kStart, jump > 0 ? 66'000 : 54'000);
  }
}

TEST(SlewedClock, a_small_difference_is_gone_after_ten_times_its_length) {
  for (const std::int64_t away : {900, -900}) {
    SlewedClock clock(0, kStart);
    bool jumped = false;
    Now now;
    for (std::int64_t ms = 1; ms <= 9000; ++ms) {
      now = clock.update(ms, kStart + ms + away, jumped);
      EXPECT_FALSE(jumped);
    }
    EXPECT_EQ(now.wall_ms, kStart + 9000 + away);
  }
}

TEST(SlewedClock, a_monotonic_clock_that_stands_or_goes_back_moves_nothing) {
  SlewedClock clock(1000, kStart);
  bool jumped = false;
  EXPECT_EQ(clock.update(1000, kStart + 500, jumped).wall_ms, kStart);
  const Now now = clock.update(400, kStart - 500, jumped);
  EXPECT_EQ(now.wall_ms, kStart);
  EXPECT_EQ(now.mono_ms, 1000);
}

// Called every millisecond, it slews as it does when called every second.
TEST(SlewedClock, how_often_it_is_asked_does_not_matter) {
  std::vector<std::int64_t> walls;
  for (const std::int64_t step : {1, 3, 10, 1000}) {
    SlewedClock clock(0, kStart);
    bool jumped = false;
    Now now;
    for (std::int64_t ms = step; ms <= 30'000; ms += step)
      now = clock.update(ms, kStart + ms + kTenYearsMs, jumped);
    walls.push_back(now.wall_ms);
  }
  for (const std::int64_t wall : walls)
    EXPECT_EQ(wall, kStart + 33'000);
}

}  // namespace
}  // namespace sluice::common_time_test
