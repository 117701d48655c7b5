// What happened in a run: every kind of fault, and the interesting situations that only come up
// sometimes. None may stay at zero, or the run has proved less than it says.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice::sim {

enum class Fault : std::uint8_t {
  disconnect,           // a connection ends with everything in flight
  half_open,            // a connection is dead and neither side knows for seconds
  silent_loss,          // one message is gone although the send succeeded
  mute_to_broker,       // one direction is lost for a while
  mute_from_broker,     //
  delay,                // one connection is slow for a while
  broker_crash,         // between two events
  broker_crash_inside,  // inside a turn: after some of its store requests, before its frames
  broker_stopped,       // SIGSTOP
  broker_terminated,    // SIGTERM: an orderly stop
  second_broker,        // another one takes over while the first still runs
  worker_crash,
  worker_stopped,
  worker_drained,
  redis_reply_lost,  // executed, and nobody hears of it
  redis_disconnect,
  redis_slow,
  redis_refused,    // OOM, LOADING, ...
  redis_restart,    // with all data
  redis_rollback,   // without its last second
  redis_flushed,    // FLUSHALL
  wall_clock_jump,  // by seconds to years
  count,
};

enum class Sometimes : std::uint8_t {
  stale_result,
  late_success,  // a lost attempt ends well after all
  claim,         // a lost attempt is found alive and taken back
  resent_run,
  lost,
  lost_too_often,
  timed_out_by_broker,
  expired,
  handed_back,
  retried,
  retries_used_up,
  cancel_lost,  // a success after the cancel
  cancel_too_late,
  cancelled_while_running,
  duplicate,
  conflict,
  new_life,       // a person's retry
  result_gone,    // retention was faster than the question
  commit_resent,  // a reply was lost, the resend is answered `already`
  takeover_while_running,
  takeover_while_dispatching,  // a `run` is on its way while the broker changes
  broker_fenced,
  store_down,
  replayed,       // what Redis lost is put back from the ring
  rewritten,      // the ring was too short: everything in memory is written whole
  orphan_commit,  // a batch of a dead broker arrives after its death
  result_repeated,
  delete_done,
  memory_full,  // memory_max is used up: a submit is to come later
  waited_for_isolate,
  isolate_crashed,
  isolate_left,  // with its job unread
  spawner_died,
  checkpoint_recorded,
  log_kept,  // of a job that is kept
  tasks_read_again,
  withdrawn,  // a job is handed back because its task is not offered any more
  count,
};

inline constexpr std::size_t kFaults = static_cast<std::size_t>(Fault::count);
inline constexpr std::size_t kSometimes = static_cast<std::size_t>(Sometimes::count);

// Redis forgets, or the wall clock jumps: only in some of the seeds.
[[nodiscard]] constexpr bool is_data_loss(Fault fault) {
  return fault == Fault::redis_rollback || fault == Fault::redis_flushed ||
         fault == Fault::wall_clock_jump;
}

[[nodiscard]] const char* to_string(Fault fault);
[[nodiscard]] const char* to_string(Sometimes what);

struct Coverage {
  std::array<std::uint64_t, kFaults> faults{};
  std::array<std::uint64_t, kSometimes> sometimes{};
  std::uint64_t events = 0;
  std::uint64_t jobs = 0;
  std::uint64_t attempts = 0;
  std::uint64_t simulated_ms = 0;
  std::uint64_t data_loss_seeds = 0;  // in which Redis may lose data
  // Jobs that may be lost by the promise: broker and Redis went in the same second.
  std::uint64_t excused_jobs = 0;

  void hit(Fault fault) { ++faults[static_cast<std::size_t>(fault)]; }

  void hit(Sometimes what, std::uint64_t times = 1) {
    sometimes[static_cast<std::size_t>(what)] += times;
  }

  void add(const Coverage& other);
};

// Prints how often everything happened; returns whether all of it did.
bool print_coverage(const Coverage& coverage);

}  // namespace sluice::sim
