// What the HTTP runtimes write into a job's log: a line where a person may ask what happened. Never
// a query, a header, a body or a secret.
#pragma once

#include <cstdint>
#include <string>

#include "common/protocol/messages.h"
#include "worker/core/attempt.h"
#include "worker/tasks/curl_loop.h"

namespace sluice {

// "POST http://host/path"
[[nodiscard]] std::string shown_call(const HttpRequest& request);

// Of an attempt that failed: "SHOWN_CALL: 503 in 812 ms, to be tried again after 2 s (Retry-After)"
[[nodiscard]] std::string ended_line(const std::string& call,
                                     const HttpReply& reply,
                                     const AttemptResult& result,
                                     std::int64_t took_ms);

[[nodiscard]] AttemptLog log_line(const RunJob& job, std::string line);

}  // namespace sluice
