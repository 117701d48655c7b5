#include "producer/cli/show.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base64.h"
#include "common/nesting.h"
#include "common/utf8.h"
#include "producer/cli/text.h"

namespace sluice::cli {

namespace {

Json attempt_to_json(const AttemptRecord& attempt) {
  Json json = {{"attempt", attempt.attempt},
               {"node", attempt.node},
               {"started_ms", attempt.started_ms},
               {"ended_ms", attempt.ended_ms},
               {"outcome", to_string(attempt.end)}};
  if (!attempt.error_code.empty()) json["error_code"] = attempt.error_code;
  if (!attempt.error.empty()) json["error"] = attempt.error;
  if (attempt.cpu_ms != 0) json["cpu_ms"] = attempt.cpu_ms;
  if (attempt.rss_bytes_max != 0) json["rss_bytes_max"] = attempt.rss_bytes_max;
  return json;
}

void add_outcome(Json& json, const Job& job) {
  if (!job.error_code.empty()) json["error_code"] = job.error_code;
  if (!job.error.empty()) json["error"] = job.error;
  if (!job.cancel_reason.empty()) json["cancel_reason"] = job.cancel_reason;
  if (job.cancel_requested_ms != 0) json["cancel_requested_ms"] = job.cancel_requested_ms;
  if (job.progress_percent != 0) json["progress"] = job.progress_percent;
  if (!job.progress_message.empty()) json["progress_message"] = job.progress_message;
  if (!job.spec.payload.empty())
    json["payload"] = bytes_to_json(job.spec.payload, job.spec.content_type);
  if (!job.result.empty()) json["result"] = bytes_to_json(job.result, "");
  json["attempts"] = Json::array();
  for (const AttemptRecord& attempt : job.attempts)
    json["attempts"].push_back(attempt_to_json(attempt));
}

// For people: short JSON on one line; bytes that are no text only by their size.
std::string value_text(std::string_view bytes, std::string_view content_type) {
  constexpr std::size_t kOneLineMax = 80;
  const Json value = bytes_to_json(bytes, content_type);
  if (value.is_object() && value.size() == 1 && value.contains("base64") && !bytes.starts_with('{'))
    return fmt::format("{} bytes that are no text; --json shows them as base64", bytes.size());
  if (value.is_string()) {
    std::string text = printable(value.get<std::string>());
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
  }
  // JSON itself escapes only the control characters of ASCII.
  const std::string line = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (line.size() <= kOneLineMax) return printable(line);
  return printable(value.dump(2, ' ', false, Json::error_handler_t::replace));
}

class Lines {
 public:
  void add(std::string_view name, std::string_view value) {
    if (!value.empty()) out_ += fmt::format("{:<10} {}\n", name, value);
  }

  void add_time(std::string_view name, std::int64_t wall_ms, std::int64_t now_ms) {
    if (wall_ms != 0)
      add(name, fmt::format("{}  ({})", local_time(wall_ms), relative_time(wall_ms, now_ms)));
  }

  void raw(std::string_view text) { out_ += text; }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Up to here a document is shown with its keys in their order: an ordered_json looks for each among
// those before it. A greater one is shown with its keys sorted.
constexpr std::size_t kOrderedBytesMax = std::size_t{32} << 10;
// What is nested deeper is shown as text, or as base64.
constexpr std::size_t kDepthMax = 128;

// Of an attempt, as far as it is known. Nobody tells of less than a millisecond of CPU time.
std::string usage_text(const AttemptRecord& attempt) {
  std::string text = span_text(attempt.ended_ms - attempt.started_ms);
  if (attempt.cpu_ms != 0) text += ", " + span_text(attempt.cpu_ms) + " CPU";
  if (attempt.rss_bytes_max != 0) text += ", " + bytes_text(attempt.rss_bytes_max) + " at its peak";
  return text;
}

std::string attempts_table(const Job& job, bool with_colour) {
  Table table({">attempt", "outcome", "node", "started", ">took", ">CPU", ">peak", "error"});
  for (const AttemptRecord& attempt : job.attempts)
    table.add({fmt::format("{}", attempt.attempt),
               std::string(to_string(attempt.end)),
               attempt.node,
               local_time(attempt.started_ms),
               span_text(attempt.ended_ms - attempt.started_ms),
               attempt.cpu_ms == 0 ? "" : span_text(attempt.cpu_ms),
               attempt.rss_bytes_max == 0 ? "" : bytes_text(attempt.rss_bytes_max),
               printable(attempt.error_code + (attempt.error.empty() ? "" : ": ") +
                         attempt.error.substr(0, attempt.error.find('\n')))});
  return table.str(with_colour);
}

}  // namespace

Json bytes_to_json(std::string_view bytes, std::string_view content_type) {
  if (content_type.find("msgpack") == std::string_view::npos && is_json_within(bytes, kDepthMax)) {
    Json parsed = bytes.size() > kOrderedBytesMax
                      ? Json(nlohmann::json::parse(bytes, nullptr, false))
                      : Json::parse(bytes, nullptr, false);
    if (!parsed.is_discarded()) return parsed;
  }
  const bool is_text = content_type.starts_with("text/");
  if (!is_text && is_msgpack_within(bytes, kDepthMax)) {
    Json parsed = bytes.size() > kOrderedBytesMax
                      ? Json(nlohmann::json::from_msgpack(bytes, true, false))
                      : Json::from_msgpack(bytes, true, false);
    // One byte below 0x80 is a number in msgpack; a single character is more likely text.
    const bool is_one_character = bytes.size() == 1 && content_type.empty();
    if (!parsed.is_discarded() && !is_one_character) return parsed;
  }
  if (is_utf8(bytes)) return std::string(bytes);
  return {{"base64", base64_of(bytes)}};
}

Json log_chunk_to_json(const LogChunk& chunk) {
  Json json = {{"offset", chunk.offset}, {"attempt", chunk.attempt}, {"at_ms", chunk.at_ms}};
  if (is_utf8(chunk.bytes))
    json["text"] = chunk.bytes;
  else
    json["base64"] = base64_of(chunk.bytes);
  return json;
}

Json job_to_json(const JobView& view) {
  Json json = {{"id", view.id.view()}};
  if (view.is_not_found) {
    json["state"] = "not_found";
    return json;
  }
  if (!view.job) {
    json["state"] = to_string(view.state);
    json["finished_ms"] = view.finished_ms;
    json["result_gone"] = view.is_result_gone;
    return json;
  }
  const Job& job = *view.job;
  json["state"] = to_string(job.state);
  json["task"] = job.spec.task;
  json["queue"] = job.spec.queue;
  json["priority"] = to_string(job.spec.priority);
  json["retry_count"] = job.retry_count;
  json["max_retries"] = job.spec.retry.max_retries;
  json["lost_count"] = job.lost_count;
  json["attempt"] = job.attempt;
  json["node"] = job.node;
  json["created_ms"] = job.created_ms;
  json["due_ms"] = job.due_ms;
  json["started_ms"] = job.started_ms;
  json["finished_ms"] = job.finished_ms;
  json["timeout_ms"] = job.spec.timeout_ms;
  json["content_type"] = job.spec.content_type;
  json["tags"] = job.spec.tags;
  add_outcome(json, job);
  return json;
}

Json submit_result_to_json(const SubmitResult& result) {
  Json json = {{"id", result.id}, {"status", to_string(result.status)}};
  if (result.state) json["state"] = to_string(*result.state);
  if (result.error)
    json["error"] = {{"code", to_string(result.error->code)},
                     {"field", result.error->where},
                     {"message", result.error->detail}};
  return json;
}

std::string job_to_text(const JobView& view, std::int64_t now_ms, bool with_colour) {
  Lines lines;
  lines.add("job", view.id.view());
  if (view.is_not_found) {
    lines.add("state", "not found");
    return lines.take();
  }
  if (!view.job) {
    lines.add("state", state_text(view.state, with_colour));
    lines.add_time("finished", view.finished_ms, now_ms);
    lines.add("result", "gone: Redis does not have the job any more, only its end is remembered");
    return lines.take();
  }
  const Job& job = *view.job;
  const bool is_cancelling = job.state == JobState::running && job.cancel_requested_ms != 0;
  lines.add("state", state_text(job.state, with_colour) + (is_cancelling ? " (cancelling)" : ""));
  lines.add("task",
            fmt::format("{}   queue {}   priority {}",
                        job.spec.task,
                        job.spec.queue,
                        to_string(job.spec.priority)));
  lines.add(
      "retries",
      fmt::format("{} of {}{}",
                  job.retry_count,
                  job.spec.retry.max_retries,
                  job.lost_count == 0 ? std::string()
                                      : fmt::format("   lost with a node {}", job.lost_count)));
  if (!job.spec.tags.empty()) lines.add("tags", fmt::format("{}", fmt::join(job.spec.tags, ", ")));
  if (job.state == JobState::running) lines.add("node", job.node);
  lines.add_time("created", job.created_ms, now_ms);
  if (job.state == JobState::pending) lines.add_time("due", job.due_ms, now_ms);
  lines.add_time("started", job.started_ms, now_ms);
  lines.add_time("finished", job.finished_ms, now_ms);
  if (!job.attempts.empty() && is_ended(job.state))
    lines.add("usage", usage_text(job.attempts.back()));
  if (job.progress_percent != 0 && !is_ended(job.state))
    lines.add("progress",
              fmt::format("{} %  {}", job.progress_percent, printable(job.progress_message)));
  if (!job.error_code.empty())
    lines.add("error", printable(job.error_code + (job.error.empty() ? "" : ": ") + job.error));
  lines.add("reason", printable(job.cancel_reason));
  if (!job.spec.payload.empty())
    lines.add("payload", value_text(job.spec.payload, job.spec.content_type));
  if (!job.result.empty()) lines.add("result", value_text(job.result, ""));
  if (!job.attempts.empty()) lines.raw("\n" + attempts_table(job, with_colour));
  return lines.take();
}

int exit_code_of_end(const JobView& view) {
  if (view.is_not_found) return kExitNotFound;
  const JobState state = view.job ? view.job->state : view.state;
  return state == JobState::completed ? kExitOk : kExitFailed;
}

}  // namespace sluice::cli
