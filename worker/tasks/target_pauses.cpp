#include "worker/tasks/target_pauses.h"

#include <algorithm>

namespace sluice {

bool TargetPauses::note(const std::string& origin, std::int64_t asked_ms, std::int64_t now_ms) {
  if (asked_ms <= 0) return false;
  if (until_ms_.size() >= kOriginsMax && !until_ms_.contains(origin)) return false;
  const std::int64_t asked_until_ms = after(now_ms, std::min(asked_ms, kPauseMaxMs));
  std::int64_t& until_ms = until_ms_[origin];
  if (until_ms >= asked_until_ms) return false;
  until_ms = asked_until_ms;
  return true;
}

std::optional<std::int64_t> TargetPauses::until_ms(std::string_view origin) const {
  const auto pause = until_ms_.find(origin);
  if (pause == until_ms_.end()) return std::nullopt;
  return pause->second;
}

void TargetPauses::end(std::int64_t now_ms) {
  std::erase_if(until_ms_, [now_ms](const auto& pause) { return pause.second <= now_ms; });
}

std::int64_t TargetPauses::next_end_ms() const {
  std::int64_t next_ms = kNever;
  for (const auto& [origin, until_ms] : until_ms_)
    next_ms = std::min(next_ms, until_ms);
  return next_ms;
}

}  // namespace sluice
