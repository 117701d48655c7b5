// Jobs as JSON for programs and as text for people.
#pragma once

#include <string>
#include <string_view>

#include "common/protocol/messages.h"
#include "producer/cli/cli.h"

namespace sluice::cli {

// Bytes of a payload or result as JSON: JSON and msgpack as what they say, other UTF-8 as a string,
// anything else as {"base64": ...}. Never fails.
[[nodiscard]] Json bytes_to_json(std::string_view bytes, std::string_view content_type);
// Stable names: those of PROTOCOL.md, but that the `state` of an unknown job is `not_found`.
[[nodiscard]] Json job_to_json(const JobView& view);
// Of a job's log.
[[nodiscard]] Json log_chunk_to_json(const LogChunk& chunk);
[[nodiscard]] Json submit_result_to_json(const SubmitResult& result);
// Several lines.
[[nodiscard]] std::string job_to_text(const JobView& view, std::int64_t now_ms, bool with_colour);
// 0 for completed, 4 for not found, else 1.
[[nodiscard]] int exit_code_of_end(const JobView& view);

}  // namespace sluice::cli
