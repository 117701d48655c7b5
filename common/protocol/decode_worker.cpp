// Worker -> broker, read.
#include <optional>
#include <utility>

#include "common/protocol/codec.h"
#include "common/protocol/wire_in.h"
#include "common/protocol/wire_isolates.h"
#include "common/protocol/words.h"

namespace sluice {

namespace {

using wire::In;

template <typename OnKey>
bool read_top(In& in, OnKey&& on_key) {
  return in.fields(
      [&](std::string_view key) { return wire::is_envelope_key(key) ? in.skip() : on_key(key); });
}

// The keys `id`, `epoch` and `attempt`, by which every message names an attempt.
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
  if (named.fence.epoch == 0) return in.missing("epoch");
  return named.fence.attempt != 0 || in.missing("attempt");
}

bool check_node(In& in, const std::string& node) {
  return !node.empty() || in.missing("node");
}

bool read_held(In& in, HeldAttempt& held) {
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "phase")
      return in.word(held.phase, parse_phase, "must be waiting, running or finished");
    return read_attempt_field(in, key, held);
  });
  return ok && check_attempt(in, held);
}

bool read_names(In& in, std::vector<std::string>& out, std::size_t max) {
  return in.list(out, 0, max, [&](std::string& name) { return in.name(name); });
}

bool read_status_field(In& in, std::string_view key, Status& status) {
  if (key == "node") return in.node_id(status.node);
  if (key == "replaces") return in.peek_text() == "" ? in.skip() : in.node_id(status.replaces);
  if (key == "seq") return in.number(status.seq);
  if (key == "concurrency") return in.number(status.concurrency, 1U, kConcurrencyMax);
  if (key == "tasks") return read_names(in, status.tasks, kTasksPerNodeMax);
  if (key == "queues") return read_names(in, status.queues, kQueuesPerNodeMax);
  if (key == "labels") return in.headers(status.labels, kLabelsPerNodeMax);
  if (key == "draining") return in.boolean(status.draining);
  if (key == "version") return in.text(status.version, kNameBytesMax);
  if (key == "isolates") return wire::read_isolates(in, status.isolates);
  if (key == "held")
    return in.list(status.held, 0, kHeldMax, [&](HeldAttempt& held) {
      return read_held(in, held);
    });
  if (key == "seen") return in.seen(status.seen);
  return in.skip();
}

bool read(In& in, Status& body) {
  return read_top(in, [&](std::string_view key) { return read_status_field(in, key, body); }) &&
         check_node(in, body.node);
}

bool read_error(In& in, AttemptResult& result) {
  return in.fields([&](std::string_view key) {
    if (key == "code") return in.text(result.error_code, kErrorCodeBytesMax, 1);
    if (key == "message") return in.text(result.error, kErrorTextBytesMax);
    if (key == "retryable") return in.boolean(result.retryable);
    if (key == "retry_after_ms")
      return in.number(result.retry_after_ms.emplace(), std::int64_t{0}, kTenYearsMs);
    return in.skip();
  });
}

bool read_usage(In& in, Usage& usage) {
  return in.fields([&](std::string_view key) {
    if (key == "cpu_ms") return in.number(usage.cpu_ms);
    if (key == "rss_bytes_max") return in.number(usage.rss_bytes_max);
    return in.skip();
  });
}

// `result` is read of a completed attempt only and `error` of a failed one only; elsewhere they are
// ignored as unknown keys are, whatever they hold. To refuse the message instead would make its
// worker repeat it for ever.
bool read_result(In& in, AttemptResult& result) {
  std::optional<Outcome> outcome;
  std::optional<In::Mark> bytes;
  std::optional<In::Mark> error;
  const bool ok = in.fields([&](std::string_view key) {
    if (key == "outcome")
      return in.word(outcome, parse_outcome, "must be completed, failed, cancelled or handed_back");
    if (key == "result") bytes = in.mark();
    if (key == "error") error = in.mark();
    if (key == "usage") return read_usage(in, result.usage);
    return read_attempt_field(in, key, result);
  });
  if (!ok || !check_attempt(in, result)) return false;
  if (!outcome) return in.missing("outcome");
  result.outcome = *outcome;
  if (result.outcome == Outcome::completed && bytes)
    return in.read_at(*bytes, "result", [&] { return in.bytes(result.result, kResultBytesMax); });
  if (result.outcome != Outcome::failed) return true;
  if (error && !in.read_at(*error, "error", [&] { return read_error(in, result); })) return false;
  if (result.error_code.empty()) result.error_code = "failed";
  return true;
}

// The attempt that the wrong entry at `mark` is about, if that much can be read.
std::optional<AttemptResult> named_attempt(In& in, const In::Mark& mark) {
  AttemptResult named;
  const bool ok = in.read_at(mark, "", [&] {
    return in.fields([&](std::string_view key) { return read_attempt_field(in, key, named); }) &&
           check_attempt(in, named);
  });
  if (ok) return named;
  (void)in.recover(mark);
  return std::nullopt;
}

// A wrong entry must not hold up the others of its message, nor be repeated for ever by a worker
// that waits for its `ack`: the attempt that it names has failed. An entry that names none is left
// out; its job waits for the time-out, as after a silence.
bool read_results(In& in, Results& body, std::optional<Error>& wrong_entry) {
  const auto read_entry = [&] {
    const In::Mark mark = in.mark();
    if (read_result(in, body.results.emplace_back())) return true;
    Error error = in.recover(mark);
    body.results.pop_back();
    if (auto failed = named_attempt(in, mark)) {
      const bool is_too_large =
          error.code == ErrorCode::too_large && error.where.ends_with("].result");
      failed->outcome = Outcome::failed;
      failed->error_code = is_too_large ? "result_too_large" : "bad_result";
      failed->error = "the node's report was refused: " + error.where + " " + error.detail;
      failed->retryable = !is_too_large;
      body.results.push_back(std::move(*failed));
    }
    if (!wrong_entry) wrong_entry = std::move(error);
    return true;
  };
  return in.elements(
      1,
      kJobsPerSubmitMax,
      [&](std::size_t count) { body.results.reserve(count); },
      read_entry);
}

bool read(In& in, Results& body, std::optional<Error>& wrong_entry) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "node") return in.node_id(body.node);
    return key == "results" ? read_results(in, body, wrong_entry) : in.skip();
  });
  if (!ok || !check_node(in, body.node)) return false;
  return !body.results.empty() || wrong_entry || in.missing("results");
}

bool read(In& in, Progress& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "node") return in.node_id(body.node);
    if (key == "percent") return in.number(body.percent, 0U, kPercentMax);
    if (key == "message") return in.text(body.message, kProgressTextBytesMax);
    if (key == "checkpoint") return in.bytes(body.checkpoint.emplace(), kCheckpointBytesMax);
    if (key == "checkpoint_n") return in.number(body.checkpoint_n);
    return read_attempt_field(in, key, body);
  });
  if (!ok || !check_node(in, body.node) || !check_attempt(in, body)) return false;
  return !body.checkpoint || body.checkpoint_n > 0 || in.missing("checkpoint_n");
}

bool read(In& in, Log& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    if (key == "node") return in.node_id(body.node);
    if (key == "bytes") return in.bytes(body.bytes, kLogChunkBytesMax);
    return read_attempt_field(in, key, body);
  });
  if (!ok || !check_node(in, body.node) || !check_attempt(in, body)) return false;
  return !body.bytes.empty() || in.missing("bytes");
}

bool read(In& in, Goodbye& body) {
  const bool ok = read_top(in, [&](std::string_view key) {
    return key == "node" ? in.node_id(body.node) : in.skip();
  });
  return ok && check_node(in, body.node);
}

}  // namespace

Result<WorkerMessage> decode_worker_message(std::string_view frame,
                                            std::optional<Error>* wrong_entry) {
  wire::Envelope envelope;
  if (auto error = wire::open_frame(frame, envelope)) return tl::unexpected(std::move(*error));
  In in(frame);
  WorkerMessage message;
  std::optional<Error> wrong;
  bool ok = false;
  if (envelope.op == "status") {
    ok = read(in, message.emplace<Status>());
  } else if (envelope.op == "result") {
    ok = read(in, message.emplace<Results>(), wrong);
  } else if (envelope.op == "progress") {
    ok = read(in, message.emplace<Progress>());
  } else if (envelope.op == "log") {
    ok = read(in, message.emplace<Log>());
  } else if (envelope.op == "goodbye") {
    ok = read(in, message.emplace<Goodbye>());
  } else {
    return fail(ErrorCode::unknown_op, "op", "is no message of a worker that this broker knows");
  }
  if (!ok) return tl::unexpected(in.take_error());
  const auto* results = std::get_if<Results>(&message);
  if (results != nullptr && results->results.empty()) return tl::unexpected(std::move(*wrong));
  if (wrong_entry != nullptr) *wrong_entry = std::move(wrong);
  return message;
}

}  // namespace sluice
