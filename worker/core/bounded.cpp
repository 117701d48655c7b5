#include "worker/core/bounded.h"

#include <algorithm>
#include <string>

#include "common/limits.h"
#include "worker/core/text.h"

namespace sluice {

AttemptResult bounded(AttemptResult result, std::uint64_t result_bytes_max) {
  if (result.outcome == Outcome::completed && result.result.size() > result_bytes_max) {
    result.error = "the result has " + std::to_string(result.result.size()) +
                   " bytes, allowed are " + std::to_string(result_bytes_max);
    result.error_code = "result_too_large";
    result.outcome = Outcome::failed;
    result.retryable = false;
  }
  if (result.outcome != Outcome::completed) result.result.clear();
  if (result.outcome == Outcome::failed) {
    result.error_code = clean_code(result.error_code);
    result.error = clean_text(result.error, kErrorTextBytesMax);
    if (result.retry_after_ms)
      result.retry_after_ms = std::clamp<std::int64_t>(*result.retry_after_ms, 0, kTenYearsMs);
  }
  return result;
}

}  // namespace sluice
