#include "worker/tasks/attempt_result.h"

#include <algorithm>

#include "worker/core/text.h"
#include "worker/tasks/retry_after.h"

namespace sluice {

namespace {

constexpr std::size_t kBodyShownBytes = 300;
// One wrong header of a target must not park a job for years.
constexpr std::int64_t kRetryAfterMaxMs = 24LL * 3600 * 1000;

AttemptResult result_of(const RunJob& job, Outcome outcome) {
  AttemptResult result;
  result.id = job.id;
  result.fence = job.fence;
  result.outcome = outcome;
  return result;
}

bool is_worth_another_try(int status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

}  // namespace

AttemptResult completed_attempt(const RunJob& job, std::string bytes) {
  AttemptResult result = result_of(job, Outcome::completed);
  if (bytes.size() > kResultBytesMax) {
    result.outcome = Outcome::failed;
    result.error_code = "result_too_large";
    result.error = "the result has " + std::to_string(bytes.size()) + " bytes, at most " +
                   std::to_string(kResultBytesMax) + " are kept";
    result.retryable = false;
  } else {
    result.result = std::move(bytes);
  }
  return result;
}

AttemptResult failed_attempt(const RunJob& job, const Error& error, const std::string& code) {
  AttemptResult result = result_of(job, Outcome::failed);
  result.error_code = code;
  result.error = clean_text(error.where.empty() ? error.detail : error.where + ": " + error.detail,
                            kErrorTextBytesMax);
  result.retryable = false;
  return result;
}

AttemptResult stopped_attempt(const RunJob& job, StopReason reason) {
  if (reason == StopReason::hand_back) return result_of(job, Outcome::handed_back);
  if (reason != StopReason::timed_out) return result_of(job, Outcome::cancelled);
  AttemptResult result = result_of(job, Outcome::failed);
  result.error_code = "timeout";
  result.error = kTimeWasOver;
  return result;
}

AttemptResult failed_call(const RunJob& job,
                          const HttpReply& reply,
                          const std::vector<UsedSecret>& secrets,
                          std::int64_t wall_ms) {
  AttemptResult result = result_of(job, Outcome::failed);
  const bool was_answered = reply.error_code.empty() || reply.status >= 400;
  std::string text;
  if (was_answered) {
    result.error_code = "http_" + std::to_string(reply.status);
    result.retryable = is_worth_another_try(reply.status);
    text = "status " + std::to_string(reply.status) + " from " + shown_target(reply.url);
    std::string body = reply.body;
    redact(body, secrets);  // before it is cut: half a secret would not be found
    if (!body.empty()) text += ": " + clean_text(body, kBodyShownBytes);
  } else {
    result.error_code = reply.error_code;
    result.retryable = reply.retryable;
    text = shown_target(reply.url) + ": " + reply.error;
  }
  if (result.retryable)
    if (const auto after_ms = parse_retry_after(reply.header("retry-after"), wall_ms))
      result.retry_after_ms = std::min(*after_ms, kRetryAfterMaxMs);
  redact(text, secrets);
  result.error = clean_text(text, kErrorTextBytesMax);
  return result;
}

}  // namespace sluice
