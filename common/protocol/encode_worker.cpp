// Worker -> broker, written.
#include "common/protocol/codec.h"
#include "common/protocol/wire_isolates.h"
#include "common/protocol/wire_out.h"

namespace sluice {

namespace {

using wire::OutMap;

void write(OutMap& map, const Status& body) {
  map.str("op", "status");
  map.number("protocol", body.protocol);
  map.str("node", body.node);
  map.str_if("replaces", body.replaces);
  map.number("seq", body.seq);
  map.number("concurrency", body.concurrency);
  map.strs("tasks", body.tasks);
  map.strs_if("queues", body.queues);
  map.headers_if("labels", body.labels);
  map.boolean_if("draining", body.draining);
  map.str_if("version", body.version);
  wire::write_isolates(map, body.isolates);
  map.maps("held", body.held, [](OutMap& entry, const HeldAttempt& held) {
    entry.str("id", held.id.view());
    entry.fence(held.fence);
    entry.str("phase", to_string(held.phase));
  });
  map.map("seen", [&](OutMap& seen) {
    seen.number("epoch", body.seen.epoch);
    seen.number("n", body.seen.n);
  });
}

void write_result(OutMap& map, const AttemptResult& result) {
  map.str("id", result.id.view());
  map.fence(result.fence);
  map.str("outcome", to_string(result.outcome));
  if (result.outcome == Outcome::completed) map.bin_if("result", result.result);
  if (result.outcome == Outcome::failed) {
    map.map("error", [&](OutMap& error) {
      error.str_if("code", result.error_code);
      error.str_if("message", result.error);
      error.boolean("retryable", result.retryable);
      if (result.retry_after_ms) error.number("retry_after_ms", *result.retry_after_ms);
    });
  }
  if (result.usage.cpu_ms != 0 || result.usage.rss_bytes_max != 0) {
    map.map("usage", [&](OutMap& usage) {
      usage.number("cpu_ms", result.usage.cpu_ms);
      usage.number("rss_bytes_max", result.usage.rss_bytes_max);
    });
  }
}

void write(OutMap& map, const Results& body) {
  map.str("op", "result");
  map.str("node", body.node);
  map.maps("results", body.results, write_result);
}

void write(OutMap& map, const Progress& body) {
  map.str("op", "progress");
  map.str("node", body.node);
  map.str("id", body.id.view());
  map.fence(body.fence);
  map.number("percent", body.percent);
  map.str_if("message", body.message);
  if (!body.checkpoint) return;
  map.key("checkpoint").bin(*body.checkpoint);
  map.number("checkpoint_n", body.checkpoint_n);
}

void write(OutMap& map, const Log& body) {
  map.str("op", "log");
  map.str("node", body.node);
  map.str("id", body.id.view());
  map.fence(body.fence);
  map.key("bytes").bin(body.bytes);
}

void write(OutMap& map, const Goodbye& body) {
  map.str("op", "goodbye");
  map.str("node", body.node);
}

}  // namespace

std::string encode_worker_message(const WorkerMessage& message) {
  std::string out;
  {
    OutMap map(out);
    std::visit([&](const auto& body) { write(map, body); }, message);
  }
  return out;
}

}  // namespace sluice
