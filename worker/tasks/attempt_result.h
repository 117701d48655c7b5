// The results of attempts as the HTTP runtimes report them.
#pragma once

#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/core/attempt.h"
#include "worker/tasks/curl_loop.h"
#include "worker/tasks/secrets.h"

namespace sluice {

[[nodiscard]] AttemptResult completed_attempt(const RunJob& job, std::string result);
// The text is cleaned and cut to what the wire takes.
[[nodiscard]] AttemptResult failed_attempt(const RunJob& job,
                                           const Error& error,
                                           const std::string& code = "bad_payload");
[[nodiscard]] AttemptResult stopped_attempt(const RunJob& job, StopReason reason);

// Of an answer that is not what was asked for: 408, 425, 429 and 5xx may be tried again, when the
// server says, but within a day; other statuses never; without an answer as the reply itself says.
// `wall_ms` is now.
[[nodiscard]] AttemptResult failed_call(const RunJob& job,
                                        const HttpReply& reply,
                                        const std::vector<UsedSecret>& secrets,
                                        std::int64_t wall_ms);

}  // namespace sluice
