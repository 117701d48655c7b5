// What the core wishes. Pointers into the core are valid until it is called again; the engine
// encodes what it needs before that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "broker/core/events.h"
#include "broker/core/records.h"
#include "common/protocol/messages.h"

namespace sluice {

struct ReplySend {
  Peer peer;
  Reply reply;
  bool is_immediate = false;  // pong, errors, figures without job state: not held by the store
  // Of an answer that only tells: the newest batch that it tells of, UINT64_MAX = one not written
  // yet. While the store is down it does not wait: it goes at once, or is asked again later.
  std::optional<std::uint64_t> tells_of_batch{};
};

// A `run` message: whole jobs, borrowed.
struct RunSend {
  Seen number;
  std::vector<const Job*> jobs;
};

struct WorkerSend {
  Peer peer;
  std::variant<BrokerMessage, RunSend> message;
};

enum class JobFactKind : std::uint8_t {
  queued,
  started,
  progress,
  retrying,
  completed,
  failed,
  cancelled,
  requeued
};

struct JobFact {
  JobFactKind kind = JobFactKind::queued;
  const Job* job = nullptr;
  std::uint32_t attempt = 0;
  std::uint32_t retry_count = 0;
};
enum class NodeFactKind : std::uint8_t {
  joined,
  left,
  dead,
  draining
};

struct NodeFact {
  NodeFactKind kind = NodeFactKind::joined;
  std::string node;
  std::string detail;
};

// A node said how it is: what `nodes` shows is worth writing again.
struct NodeSeen {
  std::string node;
};

// What a person told a queue, a node or some jobs to do.
struct OperatorFact {
  enum class Kind : std::uint8_t {
    queue_paused,
    queue_resumed,
    queue_purged,
    node_drain_asked,
    node_concurrency_asked,
    jobs_retried,
    jobs_deleted
  } kind = Kind::queue_paused;
  std::string name;         // queue or node; empty for jobs
  std::uint64_t count = 0;  // jobs; the new concurrency
};

using Fact = std::variant<JobFact, NodeFact, NodeSeen, OperatorFact>;
using Fetch = std::variant<FetchJobs, FetchList, FetchJobLog>;

struct Output {
  std::vector<ReplySend> replies;
  std::vector<WorkerSend> sends;  // in the order in which each node must get them
  std::vector<Fact> facts;
  std::vector<Fetch> fetches;
  std::vector<AddedLog> logs;  // best effort: no part of what is durable, and held by nothing
  // A node has obeyed a broker with this epoch, which is above ours; 0 = none.
  std::uint64_t newer_epoch = 0;

  void clear() {
    replies.clear();
    sends.clear();
    facts.clear();
    fetches.clear();
    logs.clear();
    newer_epoch = 0;
  }
};

}  // namespace sluice
