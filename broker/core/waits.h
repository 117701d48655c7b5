// Who waits for which jobs to end (`wait`, and `submit` with wait).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/core/events.h"
#include "broker/core/output.h"
#include "common/protocol/messages.h"

namespace sluice {

class Waits {
 public:
  // Ids waited for at once, over all waits: what a flood of waits may cost.
  static constexpr std::size_t kWaitedIdsMax = 200'000;
  // Of ended jobs that are kept for answers not said yet, over all waits; what is beyond it is told
  // as `more`.
  static constexpr std::size_t kFreshBytesMax = 64u << 20;

  struct Opening {
    Peer peer;
    Req req;
    std::vector<JobId> ids;             // not ended yet
    std::vector<JobView> ended;         // ended already
    std::int64_t deadline_ms = kNever;  // monotonic: an outage or a sleep makes no wait longer
    bool is_submit = false;
    std::vector<SubmitResult> results;  // of the submit, for a peer that gets one message only
    Durability durability = Durability::everysec;
  };

  // Whether so many more ids may be waited for.
  [[nodiscard]] bool has_room(std::size_t ids) const { return waited_ids_ + ids <= kWaitedIdsMax; }

  void open(Opening&& opening);
  // A job that is waited for has ended.
  void ended(const JobView& view);
  // Says what there is to say: `finished` of this turn, `waited` where all is known or the time is
  // over.
  void settle(std::int64_t mono_ms, Output& out);

  [[nodiscard]] std::int64_t next_deadline_ms() const {
    return deadlines_.empty() ? kNever : deadlines_.begin()->first;
  }

  [[nodiscard]] std::size_t count() const { return ops_.size(); }

 private:
  using WaitId = std::uint64_t;

  struct Op {
    Opening opening;
    std::vector<JobView> fresh;  // ended, not said yet
    std::vector<JobId> more;     // ended, did not fit into the one message
    std::size_t fresh_bytes = 0;
    std::size_t waiting = 0;
    bool has_said = false;  // a `finished`, which must stay ahead of the end
  };

  void add_fresh(Op& op, const JobView& view);
  void say_finished(Op& op, Output& out);
  void close(WaitId id, Op& op, Output& out);

  std::unordered_map<WaitId, Op> ops_;
  std::unordered_map<JobId, std::vector<WaitId>> by_job_;
  std::set<std::pair<std::int64_t, WaitId>> deadlines_;
  std::set<WaitId> touched_;
  WaitId next_id_ = 1;
  std::size_t waited_ids_ = 0;
  std::size_t fresh_bytes_ = 0;  // of all ops
};

}  // namespace sluice
