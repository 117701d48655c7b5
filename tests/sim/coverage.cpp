#include "tests/sim/coverage.h"

#include <cstdio>

namespace sluice::sim {

namespace {

bool needs_data_loss(Fault fault) {
  return is_data_loss(fault);
}

bool needs_data_loss(Sometimes what) {
  return what == Sometimes::replayed || what == Sometimes::rewritten;
}

template <typename What, std::size_t Count>
bool print_counts(const char* title,
                  const std::array<std::uint64_t, Count>& counts,
                  bool loses_data) {
  bool none_is_zero = true;
  std::printf("%s\n", title);
  for (std::size_t i = 0; i < Count; ++i) {
    if (needs_data_loss(static_cast<What>(i)) && !loses_data) continue;
    std::printf("  %-28s %10llu%s\n",
                to_string(static_cast<What>(i)),
                static_cast<unsigned long long>(counts[i]),
                counts[i] == 0 ? "  <- never happened" : "");
    none_is_zero = none_is_zero && counts[i] > 0;
  }
  return none_is_zero;
}

}  // namespace

bool print_coverage(const Coverage& coverage) {
  const bool loses_data = coverage.data_loss_seeds > 0;
  const bool has_faults = print_counts<Fault>("faults", coverage.faults, loses_data);
  return print_counts<Sometimes>("sometimes", coverage.sometimes, loses_data) && has_faults;
}

const char* to_string(Fault fault) {
  static constexpr std::array<const char*, kFaults> kNames = {
      "disconnect",        "half_open",           "silent_loss",
      "mute_to_broker",    "mute_from_broker",    "delay",
      "broker_crash",      "broker_crash_inside", "broker_stopped",
      "broker_terminated", "second_broker",       "worker_crash",
      "worker_stopped",    "worker_drained",      "redis_reply_lost",
      "redis_disconnect",  "redis_slow",          "redis_refused",
      "redis_restart",     "redis_rollback",      "redis_flushed",
      "wall_clock_jump"};
  return kNames[static_cast<std::size_t>(fault)];
}

const char* to_string(Sometimes what) {
  static constexpr std::array<const char*, kSometimes> kNames = {"stale_result",
                                                                 "late_success",
                                                                 "claim",
                                                                 "resent_run",
                                                                 "lost",
                                                                 "lost_too_often",
                                                                 "timed_out_by_broker",
                                                                 "expired",
                                                                 "handed_back",
                                                                 "retried",
                                                                 "retries_used_up",
                                                                 "cancel_lost",
                                                                 "cancel_too_late",
                                                                 "cancelled_while_running",
                                                                 "duplicate",
                                                                 "conflict",
                                                                 "new_life",
                                                                 "result_gone",
                                                                 "commit_resent",
                                                                 "takeover_while_running",
                                                                 "takeover_while_dispatching",
                                                                 "broker_fenced",
                                                                 "store_down",
                                                                 "replayed",
                                                                 "rewritten",
                                                                 "orphan_commit",
                                                                 "result_repeated",
                                                                 "delete_done",
                                                                 "memory_full",
                                                                 "waited_for_isolate",
                                                                 "isolate_crashed",
                                                                 "isolate_left",
                                                                 "spawner_died",
                                                                 "checkpoint_recorded",
                                                                 "log_kept",
                                                                 "tasks_read_again",
                                                                 "withdrawn"};
  return kNames[static_cast<std::size_t>(what)];
}

void Coverage::add(const Coverage& other) {
  for (std::size_t i = 0; i < kFaults; ++i)
    faults[i] += other.faults[i];
  for (std::size_t i = 0; i < kSometimes; ++i)
    sometimes[i] += other.sometimes[i];
  events += other.events;
  jobs += other.jobs;
  attempts += other.attempts;
  simulated_ms += other.simulated_ms;
  data_loss_seeds += other.data_loss_seeds;
  excused_jobs += other.excused_jobs;
}

}  // namespace sluice::sim
