// What is true, and what was said: the checkers of the promises. The ledger reads every batch at
// the moment Redis executes it (the durable truth of that Redis), every frame at the moment it
// leaves a broker (what somebody was told), and every start and end of an attempt on a node (what
// really ran). Each rule that is broken throws a Violation with the invariant's name in
// promises.md.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/store/log_entry.h"
#include "common/job.h"
#include "common/protocol/messages.h"
#include "tests/sim/coverage.h"
#include "worker/core/attempt.h"

namespace sluice::sim {

struct Violation {
  std::string invariant;
  std::string detail;
};

// Throws with this name unless the condition holds. A macro, so that the detail is only put
// together when it is needed.
#define REQUIRE(condition, invariant, detail) \
  do {                                        \
    if (!(condition)) [[unlikely]]            \
      throw Violation{invariant, detail};     \
  } while (false)

// Ended, or pending for a time beyond the run.
[[nodiscard]] bool has_come_to_rest(const Job& job, std::int64_t wall_ms);

class Ledger {
 public:
  explicit Ledger(Coverage& coverage) : coverage_(coverage) {}

  struct End {
    JobState state = JobState::completed;
    std::string result;
  };

  // A job as the Redis of this history has it.
  struct Durable {
    Job job;
    bool is_removed = false;
    bool has_payload = false;
    std::map<std::uint32_t, End> ends;                // by life
    std::map<std::uint32_t, std::uint32_t> failures;  // by life: attempts that failed
    std::map<std::uint32_t, std::uint32_t> losses;    // by life: attempts lost and not taken back
    std::uint32_t attempts_seen = 0;                  // newest attempt whose end was counted
  };

  using Truth = std::unordered_map<JobId, Durable>;

  // ---- the store
  // A batch has become durable.
  void committed(const DecodedEntry& entry);
  // An epoch was taken. No value may ever be given twice.
  void took_over(std::uint64_t epoch, bool may_repeat);

  [[nodiscard]] const Truth& truth() const { return truth_; }

  // Redis is back at this older truth. What it lost stays known as "at risk" until it is put back;
  // if nobody can put it back it is excused: the promise does not hold for those jobs.
  void rolled_back(const Truth& older);
  void excuse_all_at_risk();
  void excuse(const JobId& id);

  [[nodiscard]] const Truth& at_risk() const { return at_risk_; }

  // The newest that was ever durable of a job and not excused; null = nothing.
  [[nodiscard]] const Durable* known(const JobId& id) const;

  // ---- what is asked and said
  void sent(const JobSpec& spec);
  void said(const Reply& reply, const Request* request);
  void said(const std::string& node, const BrokerMessage& message);

  // ---- what runs
  void started(const std::string& node,
               const RunJob& job,
               std::int64_t wall_ms,
               bool is_clock_true);

  [[nodiscard]] bool was_accepted(const JobId& id) const { return told_.contains(id); }

  [[nodiscard]] std::size_t accepted_count() const { return told_.size(); }

  // Every accepted job is known; with `all_ended`, it has come to rest.
  void audit(bool all_ended, std::int64_t wall_ms) const;

  // Whether the broker that speaks next owns the state. One that does not know yet that it was
  // replaced may miss jobs that its successor took.
  void set_speaks_for_owner(bool is_owner) { speaks_for_owner_ = is_owner; }

 private:
  struct Told {
    std::uint64_t content_hash = 0;
    bool is_deleted = false;
    std::set<std::uint32_t> cancelled_lives;
  };

  void check_move(const Durable& before, const Job& after) const;
  void count_attempts(Durable& durable, const Job& before, const Job& after);
  void check_times(const Job& before, const Job& after) const;
  void end(Durable& durable);
  void said_submit(const SubmitResult& result, const Submit& submit);
  void said_view(const JobView& view);
  void said_target(const std::string& op, const TargetResult& result);
  void said_ack(const std::string& node, const AckedAttempt& ack) const;
  void said_run(const RunJob& run) const;

  Coverage& coverage_;
  bool speaks_for_owner_ = true;
  Truth truth_;
  Truth at_risk_;
  std::unordered_map<JobId, Told> told_;
  std::unordered_map<JobId, std::map<std::uint64_t, std::string>> payloads_;  // sent, by content
  std::unordered_map<AttemptKey, std::string> started_;                       // on which node
  std::set<std::uint64_t> epochs_;
};

}  // namespace sluice::sim
