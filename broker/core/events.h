// What the core is told. Everything from outside has passed the codec: ids, names and sizes are
// good.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "broker/core/records.h"
#include "common/protocol/messages.h"

namespace sluice {

// Where a message came from and an answer goes: a routing id of a ROUTER socket. Never shown to
// people and never an identity; a node's identity is its node id.
struct Peer {
  std::string routing_id;
  bool has_delimiter =
      false;  // sent the empty frame of REQ: one answer a request, mirrored delimiter
  friend bool operator==(const Peer&, const Peer&) = default;
};

struct RequestReceived {
  Peer peer;
  Request request;
};

struct WorkerMessageReceived {
  Peer peer;
  WorkerMessage message;
};

// Answers to Output::fetches. A fetch that failed (the store went away) answers its askers with
// store_unavailable.
struct FetchFailed {
  std::uint64_t token = 0;
};

// The view contains every batch up to `checkpoint`.
struct Projected {
  std::uint64_t checkpoint = 0;
};

// The view is about to remove these ended jobs, long after their end: their ids are known for ten
// minutes from now.
struct Retired {
  std::vector<EndedRecord> ended;
};

// The store does not take batches (or does again). While down, nothing is dispatched, no result is
// taken, no timer fires, and requests that need a write get store_unavailable.
struct StoreDown {
  std::string reason;  // for whoever is refused meanwhile; may be said again with a newer one
};

struct StoreUp {};

// Above 85 % of Redis's memory: submits get store_full.
struct StoreFull {
  bool is_full = false;
};

struct DurabilityIs {
  Durability durability = Durability::everysec;
};

// We own the state under a new epoch (after a resync).
struct EpochTaken {
  std::uint64_t epoch = 0;
};

// The store lost more than could be replayed: everything in memory is to be written whole.
struct RewriteAll {};

// The broker is stopping: submits get `draining`, nothing is dispatched any more.
struct Stopping {};

// The loop did not turn for `gap_ms` (stopped, starved): silence and time-outs move on by that
// much.
struct Slept {
  std::int64_t gap_ms = 0;
};

using Event = std::variant<RequestReceived,
                           WorkerMessageReceived,
                           FetchedJobs,
                           FetchedList,
                           FetchedJobLog,
                           FetchFailed,
                           Projected,
                           Retired,
                           StoreDown,
                           StoreUp,
                           StoreFull,
                           DurabilityIs,
                           EpochTaken,
                           RewriteAll,
                           Stopping,
                           Slept>;

}  // namespace sluice
