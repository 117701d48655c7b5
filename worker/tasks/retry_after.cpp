#include "worker/tasks/retry_after.h"

#include <algorithm>

#include <curl/curl.h>

#include "common/limits.h"

namespace sluice {

std::optional<std::int64_t> parse_retry_after(const std::string& value, std::int64_t wall_ms) {
  if (value.empty()) return std::nullopt;
  if (value.find_first_not_of("0123456789") == std::string::npos) {
    std::int64_t seconds = 0;
    for (const char digit : value)
      seconds = std::min(seconds * 10 + (digit - '0'), kTenYearsMs / 1000);
    return seconds * 1000;
  }
  // curl_getdate is generous: a bare "-5" or "2h" must not pass for a date.
  if (value.find(' ') == std::string::npos) return std::nullopt;
  const time_t date = curl_getdate(value.c_str(), nullptr);
  if (date == -1) return std::nullopt;
  const std::int64_t date_s = std::min<std::int64_t>(date, (wall_ms + kTenYearsMs) / 1000);
  return std::clamp<std::int64_t>(date_s * 1000 - wall_ms, 0, kTenYearsMs);
}

}  // namespace sluice
