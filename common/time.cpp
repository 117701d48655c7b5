#include "common/time.h"

#include <cstdlib>

namespace sluice {

Now SlewedClock::update(std::int64_t mono_ms, std::int64_t system_wall_ms, bool& jumped) {
  const std::int64_t passed = std::max<std::int64_t>(0, mono_ms - mono_ms_);
  mono_ms_ = std::max(mono_ms_, mono_ms);
  wall_ms_ += passed;
  const std::int64_t away = system_wall_ms - wall_ms_;
  jumped = !is_away_ && std::abs(away) > kJumpMs;
  is_away_ = std::abs(away) > kJumpMs;
  // Work the difference off at 10 % of the time that passed; our clock itself never goes back.
  slew_credit_ms_ += passed;
  const std::int64_t step = std::clamp(away, -(slew_credit_ms_ / 10), slew_credit_ms_ / 10);
  slew_credit_ms_ %= 10;
  wall_ms_ += std::max(step, -passed);
  return {mono_ms_, wall_ms_};
}

}  // namespace sluice
