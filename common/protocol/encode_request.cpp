// Producer -> broker, written.
#include "common/protocol/codec.h"
#include "common/protocol/wire_out.h"

namespace sluice {

namespace {

using wire::OutMap;

void write_policy(OutMap& map, const RetryPolicy& policy) {
  const RetryPolicy standard;
  if (policy.max_retries != standard.max_retries) map.number("max_retries", policy.max_retries);
  RetryPolicy delays = policy;
  delays.max_retries = standard.max_retries;
  if (delays == standard) return;
  map.map("retry", [&](OutMap& retry) {
    retry.number("base_ms", policy.base_ms);
    retry.key("factor").real(policy.factor);
    retry.number("cap_ms", policy.cap_ms);
    retry.key("jitter").real(policy.jitter);
  });
}

// What equals its default is left out.
void write_job(OutMap& map, const JobSpec& job) {
  const JobSpec standard;
  map.str("id", job.id.view());
  map.str("task", job.task);
  if (job.queue != standard.queue) map.str("queue", job.queue);
  if (job.content_type != standard.content_type) map.str("content_type", job.content_type);
  if (job.priority != standard.priority) map.str("priority", to_string(job.priority));
  map.number_if("delay_ms", job.delay_ms);
  map.number_if("run_at_ms", job.run_at_ms);
  map.number_if("expires_at_ms", job.expires_at_ms);
  if (job.timeout_ms != standard.timeout_ms) map.number("timeout_ms", job.timeout_ms);
  write_policy(map, job.retry);
  map.number_if("keep_result_ms", job.keep_result_ms);
  map.boolean_if("keep_payload", job.keep_payload);
  map.strs_if("tags", job.tags);
  map.headers_if("headers", job.headers);
  map.bin_if("payload", job.payload);
}

void write_filter(OutMap& map, const Filter& filter) {
  if (filter.state) map.str("state", to_string(*filter.state));
  map.str_if("queue", filter.queue);
  map.str_if("task", filter.task);
  map.str_if("tag", filter.tag);
  map.str_if("error_code", filter.error_code);
  map.str_if("cursor", filter.cursor);
  map.number("limit", filter.limit);
}

void write_targets(OutMap& map, const Targets& targets) {
  map.ids_if("ids", targets.ids);
  if (targets.filter)
    map.map("filter", [&](OutMap& filter) { write_filter(filter, *targets.filter); });
}

void write(OutMap& map, const Submit& body) {
  map.str("op", "submit");
  map.boolean_if("wait", body.wait);
  map.maps("jobs", body.jobs, [](OutMap& entry, const auto& job) {
    if (const auto* spec = std::get_if<JobSpec>(&job))
      write_job(entry, *spec);
    else
      entry.str("id", std::get<RejectedJob>(job).id);
  });
}

void write(OutMap& map, const Get& body) {
  map.str("op", "get");
  map.ids("ids", body.ids);
}

void write(OutMap& map, const Wait& body) {
  map.str("op", "wait");
  map.ids("ids", body.ids);
  map.number("timeout_ms", body.timeout_ms);
}

void write(OutMap& map, const Cancel& body) {
  map.str("op", "cancel");
  write_targets(map, body.targets);
  map.str_if("reason", body.reason);
}

void write(OutMap& map, const Retry& body) {
  map.str("op", "retry");
  write_targets(map, body.targets);
}

void write(OutMap& map, const Delete& body) {
  map.str("op", "delete");
  write_targets(map, body.targets);
}

void write(OutMap& map, const List& body) {
  map.str("op", "list");
  write_filter(map, body.filter);
}

void write(OutMap& map, const Logs& body) {
  map.str("op", "logs");
  map.str("id", body.id.view());
  map.number_if("from", body.from);
}

void write(OutMap& map, const Queues&) {
  map.str("op", "queues");
}

void write(OutMap& map, const Workers&) {
  map.str("op", "workers");
}

void write(OutMap& map, const Stats&) {
  map.str("op", "stats");
}

void write(OutMap& map, const Ping&) {
  map.str("op", "ping");
}

void write(OutMap& map, const Pause& body) {
  map.str("op", "pause");
  map.str("queue", body.queue);
}

void write(OutMap& map, const Resume& body) {
  map.str("op", "resume");
  map.str("queue", body.queue);
}

void write(OutMap& map, const Purge& body) {
  map.str("op", "purge");
  map.str("queue", body.queue);
}

void write(OutMap& map, const Drain& body) {
  map.str("op", "drain");
  map.str("node", body.node);
}

void write(OutMap& map, const SetConcurrency& body) {
  map.str("op", "set_concurrency");
  map.str("node", body.node);
  map.number("concurrency", body.concurrency);
}

}  // namespace

std::string encode_request(const Request& request) {
  std::string out;
  {
    OutMap map(out);
    map.key("req").raw(request.req.empty() ? std::string_view("\xc0") : request.req);
    map.number("protocol", kProtocolVersion);
    std::visit([&](const auto& body) { write(map, body); }, request.body);
  }
  return out;
}

Req make_req(std::uint64_t number) {
  Req req;
  msgpack::Writer(req).unsigned_integer(number);
  return req;
}

std::optional<std::uint64_t> req_number(const Req& req) {
  return msgpack::Reader(req).unsigned_integer();
}

}  // namespace sluice
