#include "worker/tasks/attempt_log.h"

#include "worker/core/text.h"

namespace sluice {

std::string shown_call(const HttpRequest& request) {
  constexpr std::size_t kBytesMax = 500;
  return clean_text(request.method + ' ' + shown_target(request.target.url), kBytesMax);
}

std::string ended_line(const std::string& call,
                       const HttpReply& reply,
                       const AttemptResult& result,
                       std::int64_t took_ms) {
  std::string line = call + ':';
  if (reply.status > 0) line += ' ' + std::to_string(reply.status);
  if (!reply.error_code.empty()) line += ' ' + reply.error_code;
  line += " in " + std::to_string(took_ms) + " ms";
  if (!result.retryable) return line + ", not to be tried again";
  line += ", may be tried again";
  if (const auto after_ms = result.retry_after_ms)
    line += " after " + std::to_string((*after_ms + 999) / 1000) + " s (Retry-After)";
  return line;
}

AttemptLog log_line(const RunJob& job, std::string line) {
  return AttemptLog{job.id, job.fence, std::move(line) + '\n'};
}

}  // namespace sluice
