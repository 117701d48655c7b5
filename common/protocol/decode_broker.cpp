// Broker -> worker and broker -> watchers, read.
#include <utility>

#include "common/protocol/codec.h"
#include "common/protocol/wire_in.h"
#include "common/protocol/wire_log.h"

namespace sluice {

namespace {

using wire::In;

template <typename Named>
bool read_attempt_field(In& in, std::string_view key, Named& named) {
  if (key == "id") return in.job_id(named.id);
  if (key == "epoch") return in.number(named.fence.epoch);
  if (key == "attempt") return in.number(named.fence.attempt, 1U, UINT32_MAX);
  return in.skip();
}

template <typename Named>
bool check_attempt(In& in, const Named& named) {
  if (named.id.empty()) return in.missing("id");
  return named.fence.attempt != 0 || in.missing("attempt");
}

// The keys of the top level that are not in every message.
template <typename OnKey>
bool read_top(In& in, OnKey&& on_key) {
  return in.fields([&](std::string_view key) {
    const bool is_read = wire::is_envelope_key(key) || key == "epoch" || key == "n";
    return is_read ? in.skip() : on_key(key);
  });
}

bool read(In& in, Welcome& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "heartbeat_ms") return in.number(body.heartbeat_ms, std::int64_t{1}, kTenYearsMs);
    if (key == "dead_after_ms") return in.number(body.dead_after_ms, std::int64_t{1}, kTenYearsMs);
    if (key == "result_bytes_max") return in.number(body.result_bytes_max);
    if (key == "message_bytes_max") return in.number(body.message_bytes_max);
    if (key == "repeat") return in.boolean(body.repeat);
    return in.skip();
  });
}

bool read_run_job(In& in, RunJob& job) {
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "task") return in.name(job.task);
    if (key == "queue") return in.name(job.queue);
    if (key == "payload") return in.bytes(job.payload, kPayloadBytesMax);
    if (key == "content_type") return in.text(job.content_type, kContentTypeBytesMax);
    if (key == "timeout_ms") return in.number(job.timeout_ms, std::int64_t{0}, kTenYearsMs);
    if (key == "life") return in.number(job.life);
    if (key == "retry_count") return in.number(job.retry_count);
    if (key == "max_retries") return in.number(job.max_retries);
    if (key == "headers") return in.headers(job.headers, kHeadersMax);
    if (key == "checkpoint") return in.bytes(job.checkpoint, kCheckpointBytesMax);
    return read_attempt_field(in, key, job);
  });
  if (!ok || !check_attempt(in, job)) return false;
  return !job.task.empty() || in.missing("task");
}

bool read(In& in, Run& body) {
  return read_top(in, [&](std::string_view key) {
    if (key != "jobs") return in.skip();
    return in.list(body.jobs, 1, kHeldMax, [&](RunJob& job) { return read_run_job(in, job); });
  });
}

bool read_refs(In& in, std::vector<AttemptRef>& attempts) {
  return read_top(in, [&](std::string_view key) {
    if (key != "attempts") return in.skip();
    return in.list(attempts, 1, kHeldMax, [&](AttemptRef& attempt) {
      return in.fields([&](std::string_view name) {
        return read_attempt_field(in, name, attempt);
      }) && check_attempt(in, attempt);
    });
  });
}

bool read(In& in, CancelAttempts& body) {
  return read_refs(in, body.attempts);
}

bool read(In& in, DropAttempts& body) {
  return read_refs(in, body.attempts);
}

bool read_acked(In& in, AckedAttempt& acked) {
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "stale") return in.boolean(acked.stale);
    if (key == "checkpoint_n") return in.number(acked.checkpoint_n);
    return read_attempt_field(in, key, acked);
  });
  return ok && check_attempt(in, acked);
}

bool read(In& in, Ack& body) {
  return read_top(in, [&](std::string_view key) {
    if (key != "results") return in.skip();
    return in.list(body.results, 1, kHeldMax, [&](AckedAttempt& acked) {
      return read_acked(in, acked);
    });
  });
}

bool read(In& in, DrainWish&) {
  return read_top(in, [&](std::string_view) { return in.skip(); });
}

bool read(In& in, ConcurrencyWish& body) {
  return read_top(in, [&](std::string_view key) {
    return key == "concurrency" ? in.number(body.concurrency, 1U, kConcurrencyMax) : in.skip();
  });
}

bool read(In& in, Refused& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "code") {
      std::string code;
      if (!in.text(code, kErrorCodeBytesMax)) return false;
      body.error.code = parse_error_code(code).value_or(ErrorCode::internal);
      return true;
    }
    if (key == "field") return in.text(body.error.where, kErrorTextBytesMax);
    if (key == "message") return in.text(body.error.detail, kErrorTextBytesMax);
    return in.skip();
  });
}

using Read = bool (*)(In&, BrokerBody&);

template <typename Body>
bool read_as(In& in, BrokerBody& body) {
  return read(in, body.emplace<Body>());
}

constexpr std::pair<std::string_view, Read> kOps[] = {
    {"run", read_as<Run>},
    {"ack", read_as<Ack>},
    {"welcome", read_as<Welcome>},
    {"cancel", read_as<CancelAttempts>},
    {"drop", read_as<DropAttempts>},
    {"drain", read_as<DrainWish>},
    {"set_concurrency", read_as<ConcurrencyWish>},
    {"error", read_as<Refused>},
};

// The number of the message, wherever it stands among the keys.
bool read_number(std::string_view frame, Seen& number, Error& error) {
  In in(frame);
  if (in.seen(number)) return true;
  error = in.take_error();
  return false;
}

}  // namespace

Result<BrokerMessage> decode_broker_message(std::string_view frame) {
  wire::Envelope envelope;
  if (auto error = wire::open_frame(frame, envelope)) return tl::unexpected(std::move(*error));
  BrokerMessage message;
  Error error;
  if (!read_number(frame, message.number, error)) return tl::unexpected(std::move(error));
  for (const auto& [op, read_body] : kOps) {
    if (op != envelope.op) continue;
    In in(frame);
    if (!read_body(in, message.body)) return tl::unexpected(in.take_error());
    return message;
  }
  return fail(ErrorCode::unknown_op, "op", "is no message of a broker that this worker knows");
}

// ---------------------------------------------------------------- events

namespace {

bool read_event(In& in, JobEvent& event) {
  return in.fields([&](std::string_view key) {
    if (key == "what") return in.name(event.what);
    if (key == "id") return in.job_id(event.id);
    if (key == "queue") return in.name(event.queue);
    if (key == "task") return in.name(event.task);
    if (key == "node") return in.text(event.node, kNodeIdBytesMax);
    if (key == "attempt") return in.number(event.attempt);
    if (key == "retry_count") return in.number(event.retry_count);
    if (key == "percent") return in.number(event.percent);
    if (key == "error_code") return in.text(event.error_code, kErrorCodeBytesMax);
    if (key == "at_ms") return in.number(event.at_ms);
    return in.skip();
  });
}

bool read_event(In& in, NodeEvent& event) {
  return in.fields([&](std::string_view key) {
    if (key == "what") return in.name(event.what);
    if (key == "node") return in.text(event.node, kNodeIdBytesMax);
    if (key == "at_ms") return in.number(event.at_ms);
    return in.skip();
  });
}

bool read_event(In& in, LogEvent& event) {
  return in.fields([&](std::string_view key) {
    if (key == "id") return in.job_id(event.id);
    return wire::read_log_chunk_field(in, key, event.chunk);
  });
}

}  // namespace

Result<SequencedEvent> decode_event(std::string_view frame) {
  wire::Envelope envelope;
  if (auto error = wire::open_frame(frame, envelope)) return tl::unexpected(std::move(*error));
  SequencedEvent out;
  std::string kind;
  In head(frame);
  const bool ok = head.fields([&](std::string_view key) {
    if (key == "kind") return head.name(kind);
    if (key == "sequence") return head.number(out.sequence);
    return head.skip();
  });
  if (!ok) return tl::unexpected(head.take_error());
  In in(frame);
  if (kind == "job") {
    if (!read_event(in, out.event.emplace<JobEvent>())) return tl::unexpected(in.take_error());
  } else if (kind == "node") {
    if (!read_event(in, out.event.emplace<NodeEvent>())) return tl::unexpected(in.take_error());
  } else if (kind == "log") {
    if (!read_event(in, out.event.emplace<LogEvent>())) return tl::unexpected(in.take_error());
  } else {
    return fail(ErrorCode::bad_field, "kind", "must be job, node or log");
  }
  return out;
}

}  // namespace sluice
