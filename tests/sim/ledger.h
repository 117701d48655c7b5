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
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/engine.h"
#include "broker/store/log_entry.h"
#include "broker/store/memory_store.h"
#include "common/job.h"
#include "common/protocol/messages.h"
#include "tests/sim/coverage.h"
#include "worker/core/attempt.h"

namespace sluice::sim {

// Where a handler was when it saved its checkpoint.
struct Place {
  std::uint32_t attempt = 0;
  std::uint64_t n = 0;  // of its checkpoints
  friend auto operator<=>(const Place&, const Place&) = default;

  [[nodiscard]] std::string text() const {
    return std::to_string(attempt) + ":" + std::to_string(n);
  }

  // The first place of all, of no checkpoint.
  [[nodiscard]] static Place of(const std::string& checkpoint);
};

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

// A job in a line of a violation.
[[nodiscard]] std::string text(const Job& job);

// Ended, or pending for a time beyond the run by the clock of the broker.
[[nodiscard]] bool has_come_to_rest(const Job& job, std::int64_t wall_ms);

class Ledger {
 public:
  // `redis`: for what the view holds.
  Ledger(Coverage& coverage, const MemoryRedis& redis) : coverage_(coverage), redis_(redis) {}

  struct End {
    JobState state = JobState::completed;
    std::string result;
  };

  // A job as the Redis of this history has it.
  struct Durable {
    Job job;
    bool is_removed = false;
    bool has_payload = false;
    std::int64_t whole_ms = 0;          // when it was in the log with its payload, or its result
    std::map<std::uint32_t, End> ends;  // by life
    // The attempts of this life that have ended, and how; a lost one that is taken back is none.
    std::map<std::uint32_t, AttemptEnd> ended_attempts;
    std::uint32_t attempts_before = 0;  // the newest attempt of the lives before
    std::uint32_t retries_before = 0;   // counted when this history began, in this life
    std::uint32_t losses_before = 0;
    std::uint32_t taken_back = 0;  // the newest attempt that was lost and is not any more

    [[nodiscard]] bool is_live() const { return !is_removed && !is_ended(job.state); }
  };

  using Truth = std::unordered_map<JobId, Durable>;

  // ---- the store
  // A batch has become durable.
  void committed(const DecodedEntry& entry, std::int64_t now_ms);
  // An epoch was taken. No value may ever be given twice.
  void took_over(std::uint64_t epoch, const std::string& owner);

  [[nodiscard]] const Truth& truth() const { return truth_; }

  // Jobs that have not ended.
  [[nodiscard]] std::size_t live_count() const { return live_count_; }

  // How often a job has moved: grows while anything goes on.
  [[nodiscard]] std::uint64_t moves() const { return moves_; }

  // Redis is back at this older truth. What it lost stays known as "at risk" until it is put back;
  // if nobody can put it back it is excused: the promise does not hold for those jobs.
  void rolled_back(const Truth& older);
  void excuse_all_at_risk();
  void excuse_all();
  void excuse(const JobId& id);

  [[nodiscard]] const Truth& at_risk() const { return at_risk_; }

  [[nodiscard]] bool is_excused(const JobId& id) const { return excused_.contains(id); }

  // From now on "ten minutes" by the wall clock may be a moment.
  void clock_jumped() { has_clock_jumped_ = true; }

  // The newest that was ever durable of a job and not excused; null = nothing.
  [[nodiscard]] const Durable* known(const JobId& id) const;

  // ---- what is asked and said
  void sent(const JobSpec& spec);
  // `req`: which number the request had; `next_req`: the number that the next one will have.
  void said(const Reply& reply, const Request& request, std::uint64_t req, std::uint64_t next_req);
  void said(const std::string& node, const BrokerMessage& message);
  // What the broker logs of a job.
  void said(const EngineFact& fact);

  // ---- what nodes report
  void reported(const std::string& node, const AttemptResult& result);

  // ---- what runs
  void started(const std::string& node,
               const RunJob& job,
               std::int64_t wall_ms,
               bool is_clock_true);

  // A handler was told that its checkpoint of this place, or a newer one, is recorded.
  void saved(const JobId& id, const Place& place);

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
    std::uint64_t deleted_before_req = UINT64_MAX;  // requests from this number on are later
    std::set<std::uint32_t> cancelled_lives;
  };

  struct Report {
    std::string node;
    Outcome outcome = Outcome::completed;
    std::string result;
    friend bool operator==(const Report&, const Report&) = default;
  };

  void write(const ViewRow& row, std::int64_t now_ms);
  void rewrite_excused(const ViewRow& row);

  void check_birth(const Job& job) const;
  void check_move(const Durable& before, const Job& after) const;
  void see_attempts(Durable& durable, const Job& before, const Job& after);
  void see_end_of_attempt(Durable& durable, const AttemptRecord& record, const Job& after);
  void check_report(const AttemptRecord& record, const Job& before, const Job& after) const;
  void count_live();
  void check_times(const Job& before, const Job& after) const;
  void end(Durable& durable);
  void said_submit(const SubmitResult& result, const Submit& submit);
  [[nodiscard]] bool may_be_gone(const Durable* durable) const;
  void said_view(const JobView& view, std::uint64_t req);
  void said_target(const std::string& op, const TargetResult& result, std::uint64_t next_req);
  void said_ack(const std::string& node, const AckedAttempt& ack) const;
  void said_run(const RunJob& run);

  Coverage& coverage_;
  const MemoryRedis& redis_;
  bool speaks_for_owner_ = true;
  Truth truth_;
  Truth at_risk_;
  // Lost with a Redis and with every broker that had them: nothing is promised for them any more.
  std::unordered_set<JobId> excused_;
  bool has_lost_data_ = false;
  bool has_clock_jumped_ = false;
  std::unordered_map<JobId, Told> told_;
  std::unordered_map<JobId, std::map<std::uint64_t, std::string>> payloads_;  // sent, by content
  std::unordered_map<AttemptKey, std::string> started_;                       // on which node
  // More than one only where Redis forgot that the attempt had been reported, and it ran again.
  std::unordered_map<AttemptKey, std::vector<Report>> reports_;
  std::unordered_set<AttemptKey> runs_said_;
  std::unordered_map<JobId, Place> saved_;  // the furthest
  std::map<std::uint64_t, std::string> epochs_;
  std::size_t live_count_ = 0;
  std::uint64_t moves_ = 0;
};

}  // namespace sluice::sim
