#include "producer/cli/job_arguments.h"

#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

#include "common/config_value.h"
#include "common/utf8.h"
#include "producer/cli/json_line.h"

#include <nlohmann/json.hpp>

namespace sluice::cli {

namespace {

using Json = nlohmann::ordered_json;

tl::unexpected<Error> wrong(std::string_view where, std::string detail) {
  return fail(ErrorCode::bad_field, std::string(where), std::move(detail));
}

// What is longer than the broker takes is not read to its end.
Result<std::string> read_bytes_of(std::istream& in, std::string_view where) {
  std::string bytes(kPayloadBytesMax + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  if (in.bad() || (&in == &std::cin && std::ferror(stdin) != 0))
    return fail(ErrorCode::bad_field, std::string(where), "cannot be read; is it a directory?");
  if (bytes.size() > kPayloadBytesMax)
    return fail(ErrorCode::too_large, std::string(where), "a payload has at most 1 MiB");
  return bytes;
}

Result<void> set_payload(JobSpec& job, const JobArguments& arguments) {
  const auto& payload = arguments.payload;
  const bool is_stdin = payload.size() == 1 && payload[0] == "-";
  const bool is_file = payload.size() == 1 && payload[0].starts_with('@');
  if (!is_stdin && !is_file) {
    auto text = json_payload(payload);
    if (!text) return tl::unexpected(text.error());
    job.payload = std::move(*text);
    job.content_type = arguments.content_type.empty() ? "application/json" : arguments.content_type;
    return {};
  }
  const std::string path = is_file ? payload[0].substr(1) : "stdin";
  if (path.empty())
    return fail(ErrorCode::bad_field, "@", "a file's name is missing; write @FILE, or - for stdin");
  std::ifstream file;
  if (is_file) {
    file.open(path, std::ios::binary);
    if (!file) return fail(ErrorCode::not_found, path, "cannot be read");
  }
  auto bytes = read_bytes_of(is_file ? static_cast<std::istream&>(file) : std::cin, path);
  if (!bytes) return tl::unexpected(bytes.error());
  job.payload = std::move(*bytes);
  job.content_type =
      arguments.content_type.empty() ? "application/octet-stream" : arguments.content_type;
  return {};
}

Result<double> read_number(std::string_view where, const std::string& text) {
  const Json value = Json::parse(text, nullptr, false);
  if (!value.is_number()) return wrong(where, fmt::format("'{}' is no number", text));
  return value.get<double>();
}

Result<void> set_max_retries(RetryPolicy& retry, std::string_view where, const std::string& text) {
  const auto number = read_integer(text);
  if (!number || *number < 0 || *number > kMaxRetriesMax)
    return wrong(where, fmt::format("must be an integer from 0 to {}", kMaxRetriesMax));
  retry.max_retries = static_cast<std::uint32_t>(*number);
  return {};
}

// A policy while it is read.
struct RetryDraft {
  RetryPolicy policy;
  bool has_cap = false;

  // A cap that was not said is no less than the base, as where the broker reads it.
  [[nodiscard]] RetryPolicy finished() const {
    RetryPolicy whole = policy;
    if (!has_cap) whole.cap_ms = std::max(whole.cap_ms, whole.base_ms);
    return whole;
  }
};

// One of base=3s, factor=2, cap=1h, jitter=0.2, max_retries=5; `_ms` after a name is taken too.
Result<void> set_retry_field(RetryDraft& draft, const std::string& name, const std::string& text) {
  RetryPolicy& retry = draft.policy;
  const std::string where = "retry." + name;
  if (name == "base" || name == "base_ms" || name == "cap" || name == "cap_ms") {
    const auto value_ms = read_span(where, text);
    if (!value_ms) return tl::unexpected(value_ms.error());
    const bool is_cap = name.starts_with("cap");
    (is_cap ? retry.cap_ms : retry.base_ms) = *value_ms;
    draft.has_cap = draft.has_cap || is_cap;
    return {};
  }
  if (name == "max_retries") return set_max_retries(retry, where, text);
  const auto number = read_number(where, text);
  if (name == "factor" && number) return retry.factor = *number, Result<void>{};
  if (name == "jitter" && number) return retry.jitter = *number, Result<void>{};
  if (!number) return tl::unexpected(number.error());
  return wrong(where, "is none of base, factor, cap, jitter, max_retries");
}

Result<void> set_retry_words(RetryPolicy& retry, const std::vector<std::string>& words) {
  RetryDraft draft{.policy = retry};
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    if (equals != std::string::npos) {
      auto set = set_retry_field(draft, word.substr(0, equals), word.substr(equals + 1));
      if (!set) return set;
      continue;
    }
    const auto preset = retry_preset(word);
    if (!preset)
      return wrong("--retry", fmt::format("'{}' is none of none, standard, patient", word));
    draft = {.policy = *preset};
  }
  retry = draft.finished();
  return {};
}

Result<void> set_times(JobSpec& job, const JobArguments& arguments, std::int64_t now_ms) {
  const auto span = [](std::string_view where, const std::string& text, std::int64_t& target) {
    if (text.empty()) return Result<void>{};
    const auto value = read_span(where, text);
    if (!value) return Result<void>(tl::unexpected(value.error()));
    target = *value;
    return Result<void>{};
  };
  if (auto set = span("--delay", arguments.delay, job.delay_ms); !set) return set;
  if (auto set = span("--timeout", arguments.timeout, job.timeout_ms); !set) return set;
  if (auto set = span("--keep-result", arguments.keep_result, job.keep_result_ms); !set) return set;
  if (!arguments.run_at.empty()) {
    if (!arguments.delay.empty()) return wrong("--run-at", "not together with --delay");
    const auto at = read_time("--run-at", arguments.run_at);
    if (!at) return tl::unexpected(at.error());
    job.run_at_ms = *at;
  }
  if (arguments.expires.empty()) return {};
  // A plain number under a year is a duration in milliseconds, a larger one a time.
  const auto number = read_integer(arguments.expires);
  const bool is_span = number ? *number < kTenYearsMs / 10
                              : arguments.expires.find_first_of("T-") == std::string::npos;
  if (is_span) {
    const auto after_ms = read_span("--expires", arguments.expires);
    if (!after_ms) return tl::unexpected(after_ms.error());
    job.expires_at_ms = now_ms + *after_ms;
    return {};
  }
  const auto at = read_time("--expires", arguments.expires);
  if (!at) return tl::unexpected(at.error());
  job.expires_at_ms = *at;
  return {};
}

Result<void> set_priority(JobSpec& job, std::string_view where, const std::string& word) {
  const auto priority = parse_priority(word);
  if (!priority)
    return wrong(where, fmt::format("'{}' is none of low, normal, high, critical", word));
  job.priority = *priority;
  return {};
}

Result<void> set_id(JobSpec& job, std::string_view where, const std::string& id) {
  if (!is_job_id(id))
    return wrong(where, fmt::format("'{}' is no job id (1 to 64 of A-Z a-z 0-9 _ . : -)", id));
  job.id = JobId(id);
  return {};
}

// ---- a line of JSONL

Result<void> take_text(std::string_view key, const Json& value, std::string& target) {
  if (!value.is_string()) return wrong(key, "must be a string");
  target = value.get<std::string>();
  return {};
}

Result<void> take_integer(std::string_view key, const Json& value, std::int64_t& target) {
  // By its text, because one between 2^63 and 2^64 would be taken as a negative one.
  const auto number = value.is_number_integer() ? read_integer(value.dump()) : std::nullopt;
  if (!number || *number < 0) return wrong(key, "must be an integer from 0");
  target = *number;
  return {};
}

Result<void> take_retry(const Json& value, RetryPolicy& retry) {
  if (value.is_string()) return set_retry_words(retry, {value.get<std::string>()});
  if (!value.is_object()) return wrong("retry", "must be a preset's name or an object");
  RetryDraft draft{.policy = retry};
  for (const auto& [name, field] : value.items())
    if (auto set = set_retry_field(draft,
                                   name,
                                   field.is_string() ? field.get<std::string>() : field.dump());
        !set)
      return set;
  retry = draft.finished();
  return {};
}

Result<void> take_list(std::string_view key, const Json& value, JobSpec& job) {
  if (key == "tags") {
    if (!value.is_array()) return wrong(key, "must be an array of strings");
    for (const Json& tag : value) {
      if (!tag.is_string()) return wrong(key, "must be an array of strings");
      job.tags.push_back(tag.get<std::string>());
    }
    return {};
  }
  if (!value.is_object()) return wrong(key, "must be an object of strings");
  for (const auto& [name, text] : value.items()) {
    if (!text.is_string()) return wrong(key, "must be an object of strings");
    job.headers.push_back({name, text.get<std::string>()});
  }
  return {};
}

// What has more is not built: none of the keys with entries may have so many.
constexpr std::size_t kEntriesMax = std::max(kTagsMax, kHeadersMax);
static_assert(kTagsMax == kHeadersMax);

Result<void> take_member(const JsonMember& member, JobSpec& job) {
  const std::string& key = member.key;
  if (key == "payload") return {};  // taken when the content type is known
  const bool is_large = member.values > kEntriesMax;
  if (is_large && (key == "tags" || key == "headers" || key == "retry"))
    return fail(ErrorCode::too_large, key, fmt::format("has more than {} entries", kEntriesMax));
  const Json value = is_large ? Json() : Json::parse(member.text);
  std::string text;
  if (key == "max_retries") return {};  // taken last, because it overrides the preset's
  if (key == "task") return take_text(key, value, job.task);
  if (key == "queue") return take_text(key, value, job.queue);
  if (key == "content_type") return take_text(key, value, job.content_type);
  if (key == "delay_ms") return take_integer(key, value, job.delay_ms);
  if (key == "run_at_ms") return take_integer(key, value, job.run_at_ms);
  if (key == "expires_at_ms") return take_integer(key, value, job.expires_at_ms);
  if (key == "timeout_ms") return take_integer(key, value, job.timeout_ms);
  if (key == "keep_result_ms") return take_integer(key, value, job.keep_result_ms);
  if (key == "retry") return take_retry(value, job.retry);
  if (key == "tags" || key == "headers") return take_list(key, value, job);
  if (key == "keep_payload") {
    if (!value.is_boolean()) return wrong(key, "must be true or false");
    job.keep_payload = value.get<bool>();
    return {};
  }
  if (key == "id" || key == "priority") {
    if (auto taken = take_text(key, value, text); !taken) return taken;
    return key == "id" ? set_id(job, key, text) : set_priority(job, key, text);
  }
  return wrong(key, "is no key of a job");
}

JsonMember* find(std::vector<JsonMember>& members, std::string_view key) {
  const auto found = std::ranges::find(members, key, &JsonMember::key);
  return found == members.end() ? nullptr : &*found;
}

// With or without parameters, such as a charset.
bool is_json_type(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find_first_of("; "));
  return type == "application/json";
}

// 30 February, which timegm() would take as a day of March; 24:00:00; a leap second.
bool is_on_calendar(const std::tm& parts) {
  std::tm normal = parts;
  ::timegm(&normal);
  return normal.tm_mon == parts.tm_mon && normal.tm_mday == parts.tm_mday &&
         normal.tm_hour == parts.tm_hour && normal.tm_min == parts.tm_min &&
         normal.tm_sec == parts.tm_sec;
}

}  // namespace

Result<std::int64_t> read_span(std::string_view where, const std::string& text) {
  const auto value_ms = read_duration_ms(text);
  if (!value_ms || *value_ms < 0)
    return wrong(where, fmt::format("'{}' is no duration; write 300ms, 3s, 5m, 24h or 7d", text));
  if (*value_ms > kTenYearsMs)
    return wrong(where,
                 fmt::format("{} is too long; at most ten years ({}) are allowed",
                             text,
                             show_duration_ms(kTenYearsMs)));
  return *value_ms;
}

std::string field_of_job(const Error& error) {
  const auto dot = error.where.find('.');
  return error.where.starts_with("jobs[") && dot != std::string::npos ? error.where.substr(dot + 1)
                                                                      : error.where;
}

Result<std::string> json_payload(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return std::string();
  if (arguments.size() == 1 && Json::accept(arguments[0])) {
    const std::string& text = arguments[0];
    return text.ends_with("] ") ? text.substr(0, text.size() - 1) : text;  // cli.cpp says why
  }
  // Put together from the values as they were written: a number keeps its digits.
  std::string object;
  std::set<std::string> keys;
  for (const std::string& argument : arguments) {
    if (!is_utf8(argument))
      return wrong(
          "payload",
          fmt::format("'{}' is not UTF-8, and JSON can not hold it; give bytes by @FILE or "
                      "stdin -",
                      printable(argument)));
    const auto equals = argument.find('=');
    if (equals == std::string::npos || equals == 0)
      return wrong("payload",
                   fmt::format("'{}' is neither JSON nor key=value; a file is written "
                               "@FILE, stdin -",
                               argument));
    const std::string key = argument.substr(0, equals), value = argument.substr(equals + 1);
    if (!keys.insert(key).second) return wrong("payload", fmt::format("'{}' is given twice", key));
    object += object.empty() ? '{' : ',';
    object += Json(key).dump() + ':' + (Json::accept(value) ? value : Json(value).dump());
  }
  return object + '}';
}

Result<std::int64_t> read_time(std::string_view where, const std::string& text) {
  if (const auto number = read_integer(text)) return *number;
  std::tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest != nullptr && !is_on_calendar(parts))
    return wrong(where, fmt::format("'{}' is on no calendar", text));
  parts.tm_isdst = -1;
  if (rest != nullptr && std::string_view(rest) == "Z") return std::int64_t{timegm(&parts)} * 1000;
  if (rest != nullptr && *rest == '\0') return std::int64_t{std::mktime(&parts)} * 1000;
  return wrong(where, fmt::format("'{}' is no time; write 2026-11-24T22:00:00Z", text));
}

Result<JobSpec> job_from_arguments(const JobArguments& arguments, std::int64_t now_ms) {
  JobSpec job;
  if (!is_name(arguments.task))
    return wrong(
        "TASK",
        fmt::format("'{}' is no task name (1 to 64 of A-Z a-z 0-9 _ . -)", arguments.task));
  job.task = arguments.task;
  Result<void> set;
  if (!arguments.id.empty()) set = set_id(job, "--id", arguments.id);
  if (set && !arguments.priority.empty()) set = set_priority(job, "--priority", arguments.priority);
  if (set) set = set_times(job, arguments, now_ms);
  if (set) set = set_retry_words(job.retry, arguments.retry);
  if (set) set = set_payload(job, arguments);
  if (!set) return tl::unexpected(set.error());
  if (!arguments.queue.empty()) job.queue = arguments.queue;
  if (arguments.max_retries >= 0)
    job.retry.max_retries = static_cast<std::uint32_t>(arguments.max_retries);
  job.keep_payload = arguments.keep_payload;
  job.tags = arguments.tags;
  for (const std::string& header : arguments.headers) {
    const auto equals = header.find('=');
    if (equals == std::string::npos) return wrong("--header", "write name=value");
    job.headers.push_back({header.substr(0, equals), header.substr(equals + 1)});
  }
  return job;
}

Result<JobSpec> job_from_json_line(std::string_view line) {
  auto members = members_of(line);
  if (!members) return tl::unexpected(members.error());
  JobSpec job;
  job.content_type.clear();
  for (const JsonMember& member : *members)
    if (auto taken = take_member(member, job); !taken) return tl::unexpected(taken.error());
  if (job.task.empty()) return wrong("task", "is missing");
  if (const JsonMember* max_retries = find(*members, "max_retries"))
    if (auto set = set_max_retries(job.retry, "max_retries", max_retries->text); !set)
      return tl::unexpected(set.error());
  const bool may_be_bytes = !job.content_type.empty() && !is_json_type(job.content_type);
  if (job.content_type.empty()) job.content_type = "application/json";
  if (JsonMember* payload = find(*members, "payload")) {
    const bool is_bytes = may_be_bytes && payload->text.front() == '"';
    job.payload =
        is_bytes ? Json::parse(payload->text).get<std::string>() : std::move(payload->text);
  }
  return job;
}

}  // namespace sluice::cli
