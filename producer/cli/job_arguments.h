// From what stands on the command line, or in a line of a JSONL file, to a job. Pure but for @file
// and stdin; wrong input is an Error whose `where` names the flag or key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/job.h"
#include "common/result.h"

namespace sluice::cli {

// As typed; empty = not given.
struct JobArguments {
  std::string task;
  std::vector<std::string> payload;
  std::string id, queue, priority, delay, run_at, expires, timeout, keep_result, content_type;
  std::vector<std::string> retry, tags, headers;
  int max_retries = -1;
  bool keep_payload = false;
};

[[nodiscard]] Result<JobSpec> job_from_arguments(const JobArguments& arguments,
                                                 std::int64_t now_ms);

// One object: the keys are those of a job in PROTOCOL.md; `payload` is any JSON and travels as
// application/json, its keys in their order and its numbers with their digits, unless
// `content_type` says otherwise and it is a string. Unknown keys are refused, and keys of the job
// given twice.
[[nodiscard]] Result<JobSpec> job_from_json_line(std::string_view line);

// `payload` arguments that are not @file or -: one JSON document, or key=value pairs, whose values
// are JSON where they read as such and strings otherwise. The text of the JSON.
[[nodiscard]] Result<std::string> json_payload(const std::vector<std::string>& arguments);

// `300ms`, `3s`, `5m`, `24h`, `7d`, or milliseconds; at most ten years.
[[nodiscard]] Result<std::int64_t> read_span(std::string_view where, const std::string& text);

// The broker names a field by its place in the message, `jobs[3].priority`; `priority` of it.
[[nodiscard]] std::string field_of_job(const Error& error);

// Milliseconds since the epoch, `2026-11-24T22:00:00Z`, or without the Z in local time.
[[nodiscard]] Result<std::int64_t> read_time(std::string_view where, const std::string& text);

}  // namespace sluice::cli
