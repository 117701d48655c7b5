// What the view tells people beside the jobs: `nodes` (each node's last status) and `events` (what
// nodes, operators and failing jobs did), as JSON text. Notes are made from facts and wait until
// the batch that their fact belongs to is durable; then they ride along with the projector's
// rounds. No job waits for one of them. Pure.
//
// Events are rare, but a storm of failing jobs is not: of each second of the wall clock at most
// kEventsPerSecond are kept, and one line of the next second says how many were left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "broker/store/projector.h"
#include "common/protocol/messages.h"
#include "common/time.h"

namespace sluice {

// A line of `events`. What is empty or 0 is left out, but for `what`.
struct EventNote {
  std::string_view what{};  // "node_joined", "queue_paused", "job_failed": KEYS.md has all
  std::string_view node{}, queue{}, job{}, task{}, error_code{};
  std::uint64_t attempt = 0, retry_count = 0;
  std::uint64_t count = 0;
};

class ViewNotes {
 public:
  static constexpr std::size_t kEventsPerSecond = 100;
  // Events that wait for their batch: those of the first ten seconds of a store that is down.
  static constexpr std::size_t kHeldMax = 1000;

  // A newer status of a node takes the place of one that still waits.
  void note_node(const NodeInfo& node, std::uint64_t after_batch, Now now);
  void note_gone(const std::string& node, std::uint64_t after_batch);
  void note_event(const EventNote& event, std::uint64_t after_batch, Now now);

  // Everything whose batch is confirmed goes into the next round.
  void release(std::uint64_t confirmed, Projector& projector);

 private:
  struct Held {
    std::string json;
    std::uint64_t after_batch = 0;
  };

  void hold_event(const EventNote& event, std::uint64_t after_batch, Now now);

  std::map<std::string, Held> nodes_;
  std::deque<Held> events_;
  std::int64_t second_ = 0;     // of the wall clock, in which the events below were counted
  std::size_t in_second_ = 0;   // events held in it
  std::uint64_t left_out_ = 0;  // not told yet
};

}  // namespace sluice
