// Broker -> producer, read by a client.
#include <utility>

#include "common/protocol/codec.h"
#include "common/protocol/wire_in.h"
#include "common/protocol/wire_isolates.h"
#include "common/protocol/wire_log.h"
#include "common/protocol/words.h"

namespace sluice {

namespace {

using wire::In;

constexpr std::string_view kStateWords = "must be the word of a state";

template <typename OnKey>
bool read_top(In& in, OnKey&& on_key) {
  return in.fields(
      [&](std::string_view key) { return wire::is_envelope_key(key) ? in.skip() : on_key(key); });
}

// The keys `code`, `field` and `message`. A code of a later version becomes `internal`.
bool read_error_field(In& in, std::string_view key, Error& error) {
  if (key == "field") return in.text(error.where, kMessageBytesMax);
  if (key == "message") return in.text(error.detail, kMessageBytesMax);
  std::string code;
  if (!in.text(code, kErrorCodeBytesMax)) return false;
  error.code = parse_error_code(code).value_or(ErrorCode::internal);
  return true;
}

bool is_error_key(std::string_view key) {
  return key == "code" || key == "field" || key == "message";
}

bool read_submit_result(In& in, SubmitResult& result) {
  return in.fields([&](std::string_view key) {
    if (key == "id") return in.text(result.id, kIdBytesMax);
    if (key == "status")
      return in.word(result.status, parse_submit_status, "must be the word of a status");
    if (key == "state") return in.word(result.state, parse_job_state, kStateWords);
    if (!is_error_key(key)) return in.skip();
    if (!result.error) result.error.emplace();
    return read_error_field(in, key, *result.error);
  });
}

bool read_results(In& in, std::vector<SubmitResult>& results) {
  return in.list(results, 0, kJobsPerSubmitMax, [&](SubmitResult& result) {
    return read_submit_result(in, result);
  });
}

bool read_attempt(In& in, AttemptRecord& record) {
  return in.fields([&](std::string_view key) {
    if (key == "attempt") return in.number(record.attempt);
    if (key == "node") return in.text(record.node, kNodeIdBytesMax);
    if (key == "started_ms") return in.number(record.started_ms);
    if (key == "ended_ms") return in.number(record.ended_ms);
    if (key == "outcome")
      return in.word(record.end, parse_attempt_end, "must be the word of an attempt's end");
    if (key == "error_code") return in.text(record.error_code, kMessageBytesMax);
    if (key == "error") return in.text(record.error, kMessageBytesMax);
    if (key == "cpu_ms") return in.number(record.cpu_ms);
    if (key == "rss_bytes_max") return in.number(record.rss_bytes_max);
    return in.skip();
  });
}

bool read_spec_field(In& in, std::string_view key, JobSpec& spec) {
  if (key == "queue") return in.name(spec.queue);
  if (key == "task") return in.name(spec.task);
  if (key == "priority")
    return in.word(spec.priority, parse_priority, "must be the word of a priority");
  if (key == "max_retries") return in.number(spec.retry.max_retries);
  if (key == "expires_at_ms") return in.number(spec.expires_at_ms);
  if (key == "timeout_ms") return in.number(spec.timeout_ms);
  if (key == "tags")
    return in.list(spec.tags, 0, kTagsMax, [&](std::string& tag) {
      return in.text(tag, kTagBytesMax);
    });
  if (key == "headers") return in.headers(spec.headers, kHeadersMax);
  if (key == "content_type") return in.text(spec.content_type, kContentTypeBytesMax);
  if (key == "payload") return in.bytes(spec.payload, kPayloadBytesMax);
  return in.skip();
}

bool read_job_field(In& in, std::string_view key, Job& job) {
  if (key == "retry_count") return in.number(job.retry_count);
  if (key == "attempt") return in.number(job.attempt);
  if (key == "epoch") return in.number(job.epoch);
  if (key == "lost_count") return in.number(job.lost_count);
  if (key == "life") return in.number(job.life);
  if (key == "revision") return in.number(job.revision);
  if (key == "node") return in.text(job.node, kNodeIdBytesMax);
  if (key == "created_ms") return in.number(job.created_ms);
  if (key == "due_ms") return in.number(job.due_ms);
  if (key == "started_ms") return in.number(job.started_ms);
  if (key == "finished_ms") return in.number(job.finished_ms);
  if (key == "cancel_requested_ms") return in.number(job.cancel_requested_ms);
  if (key == "cancel_reason") return in.text(job.cancel_reason, kMessageBytesMax);
  if (key == "error_code") return in.text(job.error_code, kMessageBytesMax);
  if (key == "error") return in.text(job.error, kMessageBytesMax);
  if (key == "progress") return in.number(job.progress_percent);
  if (key == "progress_message") return in.text(job.progress_message, kMessageBytesMax);
  if (key == "attempts")
    return in.list(job.attempts, 0, kAttemptsKept, [&](AttemptRecord& record) {
      return read_attempt(in, record);
    });
  if (key == "result") return in.bytes(job.result, kResultBytesMax);
  return read_spec_field(in, key, job.spec);
}

bool read_view(In& in, JobView& view) {
  Job job;
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "id") return in.job_id(job.spec.id);
    if (key == "state") return in.word(job.state, parse_job_state, kStateWords);
    if (key == "not_found") return in.boolean(view.is_not_found);
    if (key == "result_gone") return in.boolean(view.is_result_gone);
    return read_job_field(in, key, job);
  });
  if (!ok) return false;
  if (job.id().empty()) return in.missing("id");
  view.id = job.id();
  view.state = job.state;
  view.finished_ms = job.finished_ms;
  if (!view.is_not_found && !view.is_result_gone) view.job = std::move(job);
  return true;
}

bool read_views(In& in, std::vector<JobView>& views) {
  return in.list(views, 0, kIdsPerRequestMax, [&](JobView& view) { return read_view(in, view); });
}

bool read_ids(In& in, std::vector<JobId>& ids) {
  return in.job_ids(ids, 0, kIdsPerRequestMax);
}

bool read_durability(In& in, auto& durability) {
  return in.word(durability, parse_durability, "must be memory, everysec or always");
}

bool read(In& in, Submitted& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "results") return read_results(in, body.results);
    if (key == "durable") return read_durability(in, body.durable);
    if (key == "open") return in.boolean(body.open);
    return in.skip();
  });
}

template <typename Body>
bool read_jobs(In& in, Body& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "jobs") return read_views(in, body.jobs);
    if (key == "more") return read_ids(in, body.more);
    return in.skip();
  });
}

bool read(In& in, Jobs& body) {
  return read_jobs(in, body);
}

bool read(In& in, Finished& body) {
  return read_jobs(in, body);
}

bool read(In& in, Waited& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "results") return read_results(in, body.results);
    if (key == "jobs") return read_views(in, body.jobs);
    if (key == "more") return read_ids(in, body.more);
    if (key == "unfinished") return read_ids(in, body.unfinished);
    if (key == "durable") return read_durability(in, body.durable);
    return in.skip();
  });
}

bool read_target(In& in, TargetResult& result) {
  return in.fields([&](std::string_view key) {
    if (key == "id") return in.job_id(result.id);
    if (key == "status") return in.name(result.status);
    if (key == "state") return in.word(result.state, parse_job_state, kStateWords);
    return in.skip();
  });
}

bool read(In& in, TargetsDone& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "results")
      return in.list(body.results, 0, kIdsPerRequestMax, [&](TargetResult& result) {
        return read_target(in, result);
      });
    if (key == "cursor") return in.text(body.cursor, kMessageBytesMax);
    return in.skip();
  });
}

bool read(In& in, Listed& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "jobs") return read_views(in, body.jobs);
    if (key == "cursor") return in.text(body.cursor, kMessageBytesMax);
    if (key == "batch") return in.number(body.batch);
    return in.skip();
  });
}

bool read(In& in, LogPage& body) {
  return read_top(in, [&](std::string_view key) {
    if (key == "id") return in.job_id(body.id);
    if (key == "state") return in.word(body.state, parse_job_state, kStateWords);
    if (key == "next") return in.number(body.next);
    if (key == "size") return in.number(body.size);
    if (key != "chunks") return in.skip();
    return in.list(body.chunks, 0, kLogPageChunks, [&](LogChunk& chunk) {
      return in.fields(
          [&](std::string_view field) { return wire::read_log_chunk_field(in, field, chunk); });
    });
  });
}

bool read_queue(In& in, QueueInfo& queue) {
  return in.fields([&](std::string_view key) {
    if (key == "queue") return in.name(queue.queue);
    if (key == "paused") return in.boolean(queue.paused);
    if (key == "pending") return in.number(queue.pending);
    if (key == "queued") return in.number(queue.queued);
    if (key == "running") return in.number(queue.running);
    if (key == "completed") return in.number(queue.completed);
    if (key == "failed") return in.number(queue.failed);
    if (key == "cancelled") return in.number(queue.cancelled);
    if (key == "submitted") return in.number(queue.submitted);
    if (key == "retried") return in.number(queue.retried);
    if (key == "lost") return in.number(queue.lost);
    if (key == "oldest_queued_ms") return in.number(queue.oldest_queued_ms);
    if (key == "completed_per_s") return in.real(queue.completed_per_s, 0, 1e18);
    return in.skip();
  });
}

bool read(In& in, QueuesInfo& body) {
  return read_top(in, [&](std::string_view key) {
    if (key != "queues") return in.skip();
    return in.list(body.queues, 0, kMessageBytesMax, [&](QueueInfo& queue) {
      return read_queue(in, queue);
    });
  });
}

bool read_names(In& in, std::vector<std::string>& out) {
  return in.list(out, 0, kMessageBytesMax, [&](std::string& name) { return in.name(name); });
}

bool read_node(In& in, NodeInfo& node) {
  return in.fields([&](std::string_view key) {
    if (key == "node") return in.text(node.node, kNodeIdBytesMax);
    if (key == "concurrency") return in.number(node.concurrency);
    if (key == "running") return in.number(node.running);
    if (key == "free") return in.number(node.free);
    if (key == "tasks") return read_names(in, node.tasks);
    if (key == "queues") return read_names(in, node.queues);
    if (key == "labels") return in.headers(node.labels, kLabelsPerNodeMax);
    if (key == "draining") return in.boolean(node.draining);
    if (key == "version") return in.text(node.version, kNameBytesMax);
    if (key == "last_seen_ms") return in.number(node.last_seen_ms);
    if (key == "completed") return in.number(node.completed);
    if (key == "failed") return in.number(node.failed);
    if (key == "isolates") return wire::read_isolates(in, node.isolates);
    return in.skip();
  });
}

bool read(In& in, WorkersInfo& body) {
  return read_top(in, [&](std::string_view key) {
    if (key != "workers") return in.skip();
    return in.list(body.workers, 0, kMessageBytesMax, [&](NodeInfo& node) {
      return read_node(in, node);
    });
  });
}

bool read_figure(In& in, std::string_view key, StatsInfo& body) {
  if (in.peek() == msgpack::Type::integer)
    return in.number(body.numbers.emplace_back(key, 0).second);
  if (in.peek() == msgpack::Type::str)
    return in.text(body.texts.emplace_back(key, "").second, kMessageBytesMax);
  return in.skip();
}

bool read(In& in, StatsInfo& body) {
  return read_top(in, [&](std::string_view key) {
    if (key != "stats") return in.skip();
    return in.fields([&](std::string_view name) { return read_figure(in, name, body); });
  });
}

bool read(In& in, Done& body) {
  return read_top(in, [&](std::string_view key) {
    return key == "count" ? in.number(body.count) : in.skip();
  });
}

bool read(In& in, Pong& body) {
  return in.fields([&](std::string_view key) {
    if (key == "version") return in.text(body.version, kNameBytesMax);
    if (key == "protocol") return in.number(body.protocol);
    if (key == "epoch") return in.number(body.epoch);
    if (key == "durable") return read_durability(in, body.durable);
    if (key == "store") return in.text(body.store, kNameBytesMax);
    if (key == "insecure") return in.boolean(body.insecure);
    return in.skip();
  });
}

bool read(In& in, ErrorReply& body) {
  return read_top(in, [&](std::string_view key) {
    if (is_error_key(key)) return read_error_field(in, key, body.error);
    if (key == "retryable") return in.boolean(body.retryable);
    if (key == "retry_after_ms") return in.number(body.retry_after_ms.emplace());
    return in.skip();
  });
}

using Read = bool (*)(In&, std::string_view op, ReplyBody&);

template <typename Body>
bool read_as(In& in, std::string_view op, ReplyBody& body) {
  auto& out = body.emplace<Body>();
  if constexpr (requires { out.op; }) out.op = op;
  return read(in, out);
}

constexpr std::pair<std::string_view, Read> kOps[] = {
    {"submitted", read_as<Submitted>},
    {"jobs", read_as<Jobs>},
    {"finished", read_as<Finished>},
    {"waited", read_as<Waited>},
    {"cancelled", read_as<TargetsDone>},
    {"retried", read_as<TargetsDone>},
    {"deleted", read_as<TargetsDone>},
    {"listed", read_as<Listed>},
    {"logs", read_as<LogPage>},
    {"queues", read_as<QueuesInfo>},
    {"workers", read_as<WorkersInfo>},
    {"stats", read_as<StatsInfo>},
    {"paused", read_as<Done>},
    {"resumed", read_as<Done>},
    {"purged", read_as<Done>},
    {"asked", read_as<Done>},
    {"pong", read_as<Pong>},
    {"error", read_as<ErrorReply>},
};

}  // namespace

Result<Reply> decode_reply(std::string_view frame) {
  wire::Envelope envelope;
  if (auto error = wire::open_frame(frame, envelope)) return tl::unexpected(std::move(*error));
  Reply reply;
  reply.req = envelope.req;
  for (const auto& [op, read_body] : kOps) {
    if (op != envelope.op) continue;
    In in(frame);
    if (!read_body(in, op, reply.body)) return tl::unexpected(in.take_error());
    return reply;
  }
  return fail(ErrorCode::unknown_op, "op", "is no answer that this client knows");
}

}  // namespace sluice
