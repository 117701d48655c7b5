// Producer -> broker, read.
#include <algorithm>
#include <utility>

#include "common/protocol/codec.h"
#include "common/protocol/wire_in.h"
#include "common/utf8.h"

namespace sluice {

namespace {

using wire::In;

constexpr std::size_t kCursorBytesMax = 256;
constexpr std::int64_t kWallMsMax = 253'402'300'799'999;  // the end of the year 9999
constexpr std::string_view kStateWords =
    "must be pending, queued, running, completed, failed or cancelled";

// ---------------------------------------------------------------- a job of a submit

// Keys of later versions: to ignore one would promise what nobody does.
bool is_reserved(std::string_view key) {
  constexpr std::array<std::string_view, 8> kReserved =
      {"unique", "deadline_ms", "on_failed", "requires", "group", "after", "limits", "tenant"};
  return std::find(kReserved.begin(), kReserved.end(), key) != kReserved.end();
}

bool read_policy(In& in, RetryPolicy& policy) {
  bool has_cap = false;
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "base_ms") return in.number(policy.base_ms, std::int64_t{1}, kTenYearsMs);
    if (key == "factor") return in.real(policy.factor, 1, 100);
    if (key == "jitter") return in.real(policy.jitter, 0, 1);
    if (key == "cap_ms") {
      has_cap = true;
      return in.number(policy.cap_ms, std::int64_t{1}, kTenYearsMs);
    }
    if (key == "max_retries") return in.bad("stands beside `retry`, not in it");
    return in.skip();
  });
  if (!ok) return false;
  if (!has_cap) policy.cap_ms = std::max(policy.cap_ms, policy.base_ms);
  return policy.cap_ms >= policy.base_ms || in.bad("cap_ms must not be less than base_ms");
}

bool read_retry(In& in, RetryPolicy& policy) {
  if (in.peek() == msgpack::Type::map) return read_policy(in, policy);
  return in.word(policy, retry_preset, "must be none, standard, patient, or a map");
}

bool read_content_type(In& in, std::string& out) {
  if (!in.text(out, kContentTypeBytesMax, 1)) return false;
  const bool is_printable =
      std::all_of(out.begin(), out.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return is_printable || in.bad("must be printable ASCII");
}

// What decides only when the whole job is read.
struct JobExtras {
  std::optional<std::uint32_t> max_retries;
  bool has_delay = false;
  bool has_run_at = false;
};

bool read_job_field(In& in, std::string_view key, JobSpec& job, JobExtras& extras) {
  if (key == "id") return in.job_id(job.id);
  if (key == "task") return in.name(job.task);
  if (key == "payload") return in.bytes(job.payload, kPayloadBytesMax);
  if (key == "queue") return in.name(job.queue);
  if (key == "content_type") return read_content_type(in, job.content_type);
  if (key == "priority")
    return in.word(job.priority, parse_priority, "must be low, normal, high or critical");
  if (key == "delay_ms") {
    extras.has_delay = true;
    return in.number(job.delay_ms, std::int64_t{0}, kTenYearsMs);
  }
  if (key == "run_at_ms") {
    extras.has_run_at = true;
    return in.number(job.run_at_ms, std::int64_t{0}, kWallMsMax);
  }
  if (key == "expires_at_ms") return in.number(job.expires_at_ms, std::int64_t{0}, kWallMsMax);
  if (key == "timeout_ms") return in.number(job.timeout_ms, std::int64_t{0}, kTenYearsMs);
  if (key == "max_retries") return in.number(extras.max_retries.emplace(), 0U, kMaxRetriesMax);
  if (key == "retry") return read_retry(in, job.retry);
  if (key == "keep_result_ms") return in.number(job.keep_result_ms, std::int64_t{0}, kTenYearsMs);
  if (key == "keep_payload") return in.boolean(job.keep_payload);
  if (key == "tags")
    return in.list(job.tags, 0, kTagsMax, [&](std::string& tag) {
      return in.text(tag, kTagBytesMax, 1);
    });
  if (key == "headers") return in.headers(job.headers, kHeadersMax);
  if (is_reserved(key)) return in.bad("is reserved: this broker does not support it yet");
  return in.skip();
}

bool read_job(In& in, JobSpec& job) {
  JobExtras extras;
  if (!in.fields([&](std::string_view key) { return read_job_field(in, key, job, extras); }))
    return false;
  if (job.id.empty()) return in.missing("id");
  if (job.task.empty()) return in.missing("task");
  if (extras.has_delay && extras.has_run_at)
    return in.bad("has both delay_ms and run_at_ms; give at most one of them");
  if (extras.max_retries) job.retry.max_retries = *extras.max_retries;
  job.content_hash = content_hash_of(job);
  return true;
}

// The id of a job that was refused, so that its sender can tell which it was.
std::string sent_id(const In::Mark& mark) {
  msgpack::Reader reader = mark.reader;
  const std::uint32_t count = reader.map().value_or(0);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto key = reader.str();
    if (key == "id") {
      const std::string_view id = utf8_head(reader.str().value_or(""), kIdBytesMax);
      return is_utf8(id) ? std::string(id) : "";
    }
    if (!key || !reader.skip()) return "";
  }
  return "";
}

bool read_jobs(In& in, Submit& submit) {
  return in.elements(
      1,
      kJobsPerSubmitMax,
      [&](std::size_t count) { submit.jobs.reserve(count); },
      [&] {
        const In::Mark mark = in.mark();
        auto& entry = submit.jobs.emplace_back();
        if (!read_job(in, std::get<JobSpec>(entry)))
          entry = RejectedJob{sent_id(mark), in.recover(mark)};
        return true;
      });
}

// ---------------------------------------------------------------- filters and targets

bool read_filter_field(In& in, std::string_view key, Filter& filter) {
  if (key == "state") return in.word(filter.state, parse_job_state, kStateWords);
  if (key == "queue") return in.name(filter.queue);
  if (key == "task") return in.name(filter.task);
  if (key == "tag") return in.text(filter.tag, kTagBytesMax, 1);
  if (key == "error_code") return in.text(filter.error_code, kErrorCodeBytesMax, 1);
  if (key == "cursor") return in.text(filter.cursor, kCursorBytesMax);
  if (key == "limit") return in.number(filter.limit, 1U, static_cast<std::uint32_t>(kListLimitMax));
  return in.skip();
}

bool read_filter(In& in, Filter& filter) {
  if (!in.fields([&](std::string_view key) { return read_filter_field(in, key, filter); }))
    return false;
  const bool is_set = filter.state || !filter.queue.empty() || !filter.task.empty() ||
                      !filter.tag.empty() || !filter.error_code.empty();
  return is_set || in.bad("must set at least one of state, queue, task, tag, error_code");
}

bool read_target_field(In& in, std::string_view key, Targets& targets) {
  if (key == "ids") return in.job_ids(targets.ids, 1, kIdsPerRequestMax);
  if (key == "filter") return read_filter(in, targets.filter.emplace());
  return in.skip();
}

bool check_targets(In& in, const Targets& targets) {
  if (targets.ids.empty() && !targets.filter) return in.missing("ids");
  if (!targets.ids.empty() && targets.filter)
    return in.bad("has both ids and filter; give exactly one of them");
  return true;
}

// ---------------------------------------------------------------- one function per op

// Every key of the top level but those of the envelope.
template <typename OnKey>
bool read_top(In& in, OnKey&& on_key) {
  return in.fields(
      [&](std::string_view key) { return wire::is_envelope_key(key) ? in.skip() : on_key(key); });
}

bool read(In& in, Submit& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "jobs") return read_jobs(in, body);
    if (key == "wait") return in.boolean(body.wait);
    return in.skip();
  });
  return ok && (!body.jobs.empty() || in.missing("jobs"));
}

bool read(In& in, Get& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    return key == "ids" ? in.job_ids(body.ids, 1, kIdsPerRequestMax) : in.skip();
  });
  return ok && (!body.ids.empty() || in.missing("ids"));
}

bool read(In& in, Wait& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "ids") return in.job_ids(body.ids, 1, kIdsPerRequestMax);
    if (key == "timeout_ms") return in.number(body.timeout_ms, std::int64_t{0}, kWaitMaxMs);
    return in.skip();
  });
  return ok && (!body.ids.empty() || in.missing("ids"));
}

bool read(In& in, Cancel& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "reason") return in.text(body.reason, kReasonBytesMax);
    return read_target_field(in, key, body.targets);
  });
  return ok && check_targets(in, body.targets);
}

template <typename Body>
bool read_targets(In& in, Body& body) {
  const bool ok =
      read_top(in, [&](std::string_view key) { return read_target_field(in, key, body.targets); });
  return ok && check_targets(in, body.targets);
}

bool read(In& in, Retry& body) {
  return read_targets(in, body);
}

bool read(In& in, Delete& body) {
  return read_targets(in, body);
}

bool read(In& in, List& body) {
  const bool ok =
      read_top(in, [&](std::string_view key) { return read_filter_field(in, key, body.filter); });
  return ok && (body.filter.state || in.missing("state"));
}

bool read(In& in, Logs& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "id") return in.job_id(body.id);
    return key == "from" ? in.number(body.from) : in.skip();
  });
  return ok && (!body.id.empty() || in.missing("id"));
}

template <typename Body>
bool read_nothing(In& in, Body&) {
  return read_top(in, [&](std::string_view) { return in.skip(); });
}

bool read(In& in, Queues& body) {
  return read_nothing(in, body);
}

bool read(In& in, Workers& body) {
  return read_nothing(in, body);
}

bool read(In& in, Stats& body) {
  return read_nothing(in, body);
}

bool read(In& in, Ping& body) {
  return read_nothing(in, body);
}

template <typename Body>
bool read_queue(In& in, Body& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    return key == "queue" ? in.name(body.queue) : in.skip();
  });
  return ok && (!body.queue.empty() || in.missing("queue"));
}

bool read(In& in, Pause& body) {
  return read_queue(in, body);
}

bool read(In& in, Resume& body) {
  return read_queue(in, body);
}

bool read(In& in, Purge& body) {
  return read_queue(in, body);
}

// A node id, or the name before its '@'.
bool read_node(In& in, std::string& out) {
  const auto text = in.peek_text();
  if (!text || !(is_name(*text) || is_node_id(*text)))
    return in.bad("must be a node's name or id (name@life)");
  return in.text(out, kNodeIdBytesMax);
}

bool read(In& in, Drain& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    return key == "node" ? read_node(in, body.node) : in.skip();
  });
  return ok && (!body.node.empty() || in.missing("node"));
}

bool read(In& in, SetConcurrency& body) {
  bool has_concurrency = false;
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "node") return read_node(in, body.node);
    if (key != "concurrency") return in.skip();
    has_concurrency = true;
    return in.number(body.concurrency, 1U, kConcurrencyMax);
  });
  if (!ok) return false;
  if (body.node.empty()) return in.missing("node");
  return has_concurrency || in.missing("concurrency");
}

// ---------------------------------------------------------------- dispatch by op

using Read = bool (*)(In&, RequestBody&);

template <typename Body>
bool read_as(In& in, RequestBody& body) {
  return read(in, body.emplace<Body>());
}

constexpr std::pair<std::string_view, Read> kOps[] = {
    {"submit", read_as<Submit>},
    {"get", read_as<Get>},
    {"wait", read_as<Wait>},
    {"cancel", read_as<Cancel>},
    {"retry", read_as<Retry>},
    {"delete", read_as<Delete>},
    {"list", read_as<List>},
    {"logs", read_as<Logs>},
    {"queues", read_as<Queues>},
    {"workers", read_as<Workers>},
    {"stats", read_as<Stats>},
    {"pause", read_as<Pause>},
    {"resume", read_as<Resume>},
    {"purge", read_as<Purge>},
    {"drain", read_as<Drain>},
    {"set_concurrency", read_as<SetConcurrency>},
    {"ping", read_as<Ping>},
};

}  // namespace

tl::expected<Request, BadRequest> decode_request(std::string_view frame) {
  constexpr std::string_view kNil = "\xc0";
  wire::Envelope envelope;
  auto error = wire::open_frame(frame, envelope);
  Request request;
  request.req = envelope.req.empty() ? kNil : envelope.req;
  const auto refuse = [&](Error why) {
    return tl::unexpected<BadRequest>(BadRequest{std::move(request.req), std::move(why)});
  };
  if (error) return refuse(std::move(*error));
  if (envelope.req.empty()) return refuse({ErrorCode::malformed, "req", "is missing"});
  const auto is_op = [&](const auto& op) {
    return op.first == envelope.op;
  };
  const auto* op = std::find_if(std::begin(kOps), std::end(kOps), is_op);
  if (op == std::end(kOps))
    return refuse({ErrorCode::unknown_op, "op", "is no request that this broker knows"});
  In in(frame);
  if (!op->second(in, request.body)) return refuse(in.take_error());
  return request;
}

}  // namespace sluice
