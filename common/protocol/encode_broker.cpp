// Broker -> worker and broker -> watchers, written.
#include "common/protocol/codec.h"
#include "common/protocol/wire_log.h"
#include "common/protocol/wire_out.h"

namespace sluice {

namespace {

using wire::OutMap;

// A job of a `run`, from wherever its parts stand.
struct RunView {
  const JobId& id;
  Fence fence;
  const std::string& task;
  const std::string& queue;
  const std::string& payload;
  const std::string& content_type;
  std::int64_t timeout_ms;
  std::uint32_t life;
  std::uint32_t retry_count;
  std::uint32_t max_retries;
  const std::vector<Header>& headers;
  const std::string& checkpoint;
};

RunView view_of(const RunJob& job) {
  return {job.id,
          job.fence,
          job.task,
          job.queue,
          job.payload,
          job.content_type,
          job.timeout_ms,
          job.life,
          job.retry_count,
          job.max_retries,
          job.headers,
          job.checkpoint};
}

RunView view_of(const Job* job) {
  return {job->id(),
          job->fence(),
          job->spec.task,
          job->spec.queue,
          job->spec.payload,
          job->spec.content_type,
          job->spec.timeout_ms,
          job->life,
          job->retry_count,
          job->spec.retry.max_retries,
          job->spec.headers,
          job->checkpoint};
}

void write_run_job(OutMap& map, const RunView& job) {
  map.str("id", job.id.view());
  map.fence(job.fence);
  map.str("task", job.task);
  map.str("queue", job.queue);
  map.str("content_type", job.content_type);
  map.number("timeout_ms", job.timeout_ms);
  map.number("life", job.life);
  map.number("retry_count", job.retry_count);
  map.number("max_retries", job.max_retries);
  map.headers_if("headers", job.headers);
  map.bin_if("checkpoint", job.checkpoint);
  map.key("payload").bin(job.payload);
}

void write_number(OutMap& map, std::string_view op, const Seen& number) {
  map.str("op", op);
  map.number("epoch", number.epoch);
  map.number("n", number.n);
}

template <typename Jobs>
void write_run(OutMap& map, const Seen& number, const Jobs& jobs) {
  write_number(map, "run", number);
  map.maps("jobs", jobs, [](OutMap& entry, const auto& job) {
    write_run_job(entry, view_of(job));
  });
}

void write_refs(OutMap& map, const std::vector<AttemptRef>& attempts) {
  map.maps("attempts", attempts, [](OutMap& entry, const AttemptRef& attempt) {
    entry.str("id", attempt.id.view());
    entry.fence(attempt.fence);
  });
}

void write(OutMap& map, const Seen& number, const Welcome& body) {
  write_number(map, "welcome", number);
  map.number("protocol", kProtocolVersion);
  map.number("heartbeat_ms", body.heartbeat_ms);
  map.number("dead_after_ms", body.dead_after_ms);
  map.number("result_bytes_max", body.result_bytes_max);
  map.number("message_bytes_max", body.message_bytes_max);
  if (body.repeat) map.boolean("repeat", true);
}

void write(OutMap& map, const Seen& number, const Run& body) {
  write_run(map, number, body.jobs);
}

void write(OutMap& map, const Seen& number, const CancelAttempts& body) {
  write_number(map, "cancel", number);
  write_refs(map, body.attempts);
}

void write(OutMap& map, const Seen& number, const DropAttempts& body) {
  write_number(map, "drop", number);
  write_refs(map, body.attempts);
}

void write(OutMap& map, const Seen& number, const Ack& body) {
  write_number(map, "ack", number);
  map.maps("results", body.results, [](OutMap& entry, const AckedAttempt& acked) {
    entry.str("id", acked.id.view());
    entry.fence(acked.fence);
    entry.boolean_if("stale", acked.stale);
    entry.number_if("checkpoint_n", acked.checkpoint_n);
  });
}

void write(OutMap& map, const Seen& number, const DrainWish&) {
  write_number(map, "drain", number);
}

void write(OutMap& map, const Seen& number, const ConcurrencyWish& body) {
  write_number(map, "set_concurrency", number);
  map.number("concurrency", body.concurrency);
}

void write(OutMap& map, const Seen& number, const Refused& body) {
  write_number(map, "error", number);
  map.str("code", to_string(body.error.code));
  map.str_if("field", body.error.where);
  map.str("message", body.error.detail);
}

}  // namespace

std::string encode_broker_message(const BrokerMessage& message) {
  std::string out;
  {
    OutMap map(out);
    std::visit([&](const auto& body) { write(map, message.number, body); }, message.body);
  }
  return out;
}

std::size_t run_bytes_bound(const Job& job) {
  // Keys, numbers and the heads of strings take under 256 bytes.
  std::size_t bytes = 256 + kIdBytesMax + job.spec.task.size() + job.spec.queue.size() +
                      job.spec.content_type.size() + job.spec.payload.size() +
                      job.checkpoint.size();
  for (const Header& header : job.spec.headers)
    bytes += 10 + header.name.size() + header.value.size();
  return bytes;
}

std::string encode_run(Seen number, std::span<const Job* const> jobs) {
  std::string out;
  std::size_t bytes = 64;
  for (const Job* job : jobs)
    bytes += run_bytes_bound(*job);
  out.reserve(bytes);
  {
    OutMap map(out);
    write_run(map, number, jobs);
  }
  return out;
}

// ---------------------------------------------------------------- events

std::string event_topic(const EventBody& event) {
  if (const auto* job = std::get_if<JobEvent>(&event)) return "job." + job->what + '.' + job->queue;
  if (const auto* log = std::get_if<LogEvent>(&event)) return "log." + log->id.str();
  return "node." + std::get<NodeEvent>(event).what;
}

namespace {

void write_event(OutMap& map, const JobEvent& event) {
  map.str("kind", "job");
  map.str("what", event.what);
  map.str("id", event.id.view());
  map.str("queue", event.queue);
  map.str("task", event.task);
  map.str_if("node", event.node);
  map.number_if("attempt", event.attempt);
  map.number_if("retry_count", event.retry_count);
  map.number_if("percent", event.percent);
  map.str_if("error_code", event.error_code);
  map.number("at_ms", event.at_ms);
}

void write_event(OutMap& map, const NodeEvent& event) {
  map.str("kind", "node");
  map.str("what", event.what);
  map.str("node", event.node);
  map.number("at_ms", event.at_ms);
}

void write_event(OutMap& map, const LogEvent& event) {
  map.str("kind", "log");
  map.str("id", event.id.view());
  wire::write_log_chunk(map, event.chunk);
}

}  // namespace

std::string encode_event(const EventBody& event, std::uint64_t sequence) {
  std::string out;
  {
    OutMap map(out);
    map.str("op", "event");
    map.number("sequence", sequence);
    std::visit([&](const auto& body) { write_event(map, body); }, event);
  }
  return out;
}

}  // namespace sluice
