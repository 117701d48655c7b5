// Broker -> producer, written.
#include <type_traits>

#include "common/protocol/codec.h"
#include "common/protocol/wire_isolates.h"
#include "common/protocol/wire_log.h"
#include "common/protocol/wire_out.h"

namespace sluice {

namespace {

using wire::OutMap;

void write_error(OutMap& map, const Error& error) {
  map.str("code", to_string(error.code));
  map.str_if("field", error.where);
  map.str("message", error.detail);
}

void write_submit_result(OutMap& map, const SubmitResult& result) {
  map.str("id", result.id);
  map.str("status", to_string(result.status));
  if (result.state) map.str("state", to_string(*result.state));
  if (result.error) write_error(map, *result.error);
}

void write_attempt(OutMap& map, const AttemptRecord& record) {
  map.number("attempt", record.attempt);
  map.str_if("node", record.node);
  map.number("started_ms", record.started_ms);
  map.number("ended_ms", record.ended_ms);
  map.str("outcome", to_string(record.end));
  map.str_if("error_code", record.error_code);
  map.str_if("error", record.error);
  map.number_if("cpu_ms", record.cpu_ms);
  map.number_if("rss_bytes_max", record.rss_bytes_max);
}

void write_job(OutMap& map, const Job& job) {
  map.str("queue", job.spec.queue);
  map.str("task", job.spec.task);
  map.str("priority", to_string(job.spec.priority));
  map.number("retry_count", job.retry_count);
  map.number("max_retries", job.spec.retry.max_retries);
  map.number("attempt", job.attempt);
  map.number_if("epoch", job.epoch);
  map.number_if("lost_count", job.lost_count);
  map.number("life", job.life);
  map.number("revision", job.revision);
  map.str_if("node", job.node);
  map.number("created_ms", job.created_ms);
  map.number_if("due_ms", job.due_ms);
  map.number_if("expires_at_ms", job.spec.expires_at_ms);
  map.number("timeout_ms", job.spec.timeout_ms);
  map.number_if("started_ms", job.started_ms);
  map.number_if("finished_ms", job.finished_ms);
  map.number_if("cancel_requested_ms", job.cancel_requested_ms);
  map.str_if("cancel_reason", job.cancel_reason);
  map.str_if("error_code", job.error_code);
  map.str_if("error", job.error);
  map.number_if("progress", job.progress_percent);
  map.str_if("progress_message", job.progress_message);
  map.maps_if("attempts", job.attempts, write_attempt);
  map.strs_if("tags", job.spec.tags);
  map.headers_if("headers", job.spec.headers);
  map.str_if("content_type", job.spec.content_type);
  map.bin_if("payload", job.spec.payload);
  map.bin_if("result", job.result);
}

void write_view(OutMap& map, const JobView& view) {
  map.str("id", view.id.view());
  if (view.is_not_found) return map.boolean("not_found", true);
  map.str("state", to_string(view.job ? view.job->state : view.state));
  if (view.job) return write_job(map, *view.job);
  map.number("finished_ms", view.finished_ms);
  map.boolean_if("result_gone", view.is_result_gone);
}

void write(OutMap& map, const Submitted& body) {
  map.str("op", "submitted");
  map.boolean_if("open", body.open);
  map.str("durable", to_string(body.durable));
  map.maps("results", body.results, write_submit_result);
}

void write(OutMap& map, const Jobs& body) {
  map.str("op", "jobs");
  map.maps("jobs", body.jobs, write_view);
  map.ids_if("more", body.more);
}

void write(OutMap& map, const Finished& body) {
  map.str("op", "finished");
  map.boolean("open", true);
  map.maps("jobs", body.jobs, write_view);
  map.ids_if("more", body.more);
}

void write(OutMap& map, const Waited& body) {
  map.str("op", "waited");
  map.maps_if("results", body.results, write_submit_result);
  map.maps_if("jobs", body.jobs, write_view);
  map.ids_if("more", body.more);
  map.ids("unfinished", body.unfinished);
  if (body.durable) map.str("durable", to_string(*body.durable));
}

void write(OutMap& map, const TargetsDone& body) {
  map.str("op", body.op);
  map.maps("results", body.results, [](OutMap& entry, const TargetResult& result) {
    entry.str("id", result.id.view());
    entry.str("status", result.status);
    if (result.state) entry.str("state", to_string(*result.state));
  });
  map.str_if("cursor", body.cursor);
}

void write(OutMap& map, const Listed& body) {
  map.str("op", "listed");
  map.maps("jobs", body.jobs, write_view);
  map.str_if("cursor", body.cursor);
  map.number("batch", body.batch);
}

void write(OutMap& map, const LogPage& body) {
  map.str("op", "logs");
  map.str("id", body.id.view());
  map.str("state", to_string(body.state));
  map.number("next", body.next);
  map.number("size", body.size);
  map.maps("chunks", body.chunks, wire::write_log_chunk);
}

void write_queue(OutMap& map, const QueueInfo& queue) {
  map.str("queue", queue.queue);
  map.boolean("paused", queue.paused);
  map.number("pending", queue.pending);
  map.number("queued", queue.queued);
  map.number("running", queue.running);
  map.number("completed", queue.completed);
  map.number("failed", queue.failed);
  map.number("cancelled", queue.cancelled);
  map.number("submitted", queue.submitted);
  map.number("retried", queue.retried);
  map.number("lost", queue.lost);
  map.number("oldest_queued_ms", queue.oldest_queued_ms);
  map.key("completed_per_s").real(queue.completed_per_s);
}

void write(OutMap& map, const QueuesInfo& body) {
  map.str("op", "queues");
  map.maps("queues", body.queues, write_queue);
}

void write_node(OutMap& map, const NodeInfo& node) {
  map.str("node", node.node);
  map.number("concurrency", node.concurrency);
  map.number("running", node.running);
  map.number("free", node.free);
  map.strs("tasks", node.tasks);
  map.strs("queues", node.queues);
  map.headers_if("labels", node.labels);
  map.boolean("draining", node.draining);
  map.str_if("version", node.version);
  map.number("last_seen_ms", node.last_seen_ms);
  map.number("completed", node.completed);
  map.number("failed", node.failed);
  wire::write_isolates(map, node.isolates);
}

void write(OutMap& map, const WorkersInfo& body) {
  map.str("op", "workers");
  map.maps("workers", body.workers, write_node);
}

void write(OutMap& map, const StatsInfo& body) {
  map.str("op", "stats");
  map.map("stats", [&](OutMap& stats) {
    for (const auto& [name, number] : body.numbers)
      stats.number(name, number);
    for (const auto& [name, text] : body.texts)
      stats.str(name, text);
  });
}

void write(OutMap& map, const Done& body) {
  map.str("op", body.op);
  map.number_if("count", body.count);
}

void write(OutMap& map, const Pong& body) {
  map.str("op", "pong");
  map.str("version", body.version);
  map.number("protocol", body.protocol);
  map.number("epoch", body.epoch);
  map.str("durable", to_string(body.durable));
  map.str("store", body.store);
  map.boolean_if("insecure", body.insecure);
}

void write(OutMap& map, const ErrorReply& body) {
  map.str("op", "error");
  write_error(map, body.error);
  map.boolean("retryable", body.retryable);
  if (body.retry_after_ms) map.number("retry_after_ms", *body.retry_after_ms);
}

}  // namespace

std::string encode_reply(const Reply& reply) {
  std::string out;
  {
    OutMap map(out);
    std::visit([&](const auto& body) { write(map, body); }, reply.body);
    map.key("req").raw(reply.req.empty() ? std::string_view("\xc0") : reply.req);
  }
  return out;
}

std::size_t job_view_bytes_bound(const Job& job) {
  // Keys, numbers and the heads of strings: under 700 for the job, under 200 for an attempt.
  std::size_t bytes = 1024 + job.spec.queue.size() + job.spec.task.size() +
                      job.spec.content_type.size() + job.spec.payload.size() + job.result.size() +
                      job.node.size() + job.cancel_reason.size() + job.error_code.size() +
                      job.error.size() + job.progress_message.size() + kIdBytesMax;
  for (const AttemptRecord& record : job.attempts)
    bytes += 256 + record.node.size() + record.error_code.size() + record.error.size();
  for (const std::string& tag : job.spec.tags)
    bytes += 5 + tag.size();
  for (const Header& header : job.spec.headers)
    bytes += 10 + header.name.size() + header.value.size();
  return bytes;
}

}  // namespace sluice
