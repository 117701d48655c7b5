// Deliberate protocol mistakes, one of which the simulator can switch on to see that it is caught.
// Outside the simulator's own build MUTANT(...) is the constant false and costs nothing.
#pragma once

namespace sluice {

enum class Mutant : unsigned char {
  none,
  speaks_before_durable,  // the outbox lets sends go before their batch is confirmed
  ignores_fence,          // a result counts whatever its fence is
  retry_off_by_one,       // one retry more than max_retries
  forgets_cancel,         // a success reported after the cancel completes the job
  slot_freed_at_timeout,  // a time-out is reported, and the slot free, while the process still runs
  acks_unrecorded,        // a result is acknowledged though the store is down
  epoch_not_raised,       // a broker takes over under the epoch that it found
  view_forgets_rows,      // a call of the view whose outcome is unknown counts as applied
  index_left_behind,      // a job that moves stays in the index of its old state
  log_left_behind,        // nobody knows that a job which the view never gets has a log
  overwrites_result,      // a repeated report empties the result of a job that has ended
  revision_not_raised,    // a move that leaves the revision as it was
  ignores_backoff,        // a failed attempt is tried again at once
  ignores_content,        // a submit counts as a duplicate whatever its content is
  ignores_priority,       // over all lines the oldest job goes first
  ignores_memory_max,     // jobs are taken in though memory_max is used up
  answers_unrecorded,     // a handler is told that its checkpoint is recorded when it is sent
  ring_forgets_nothing,   // confirmed batches stay in the replay ring for good
  keeps_old_offer,        // who fits a line is not asked again when a node's tasks change
  runs_withdrawn,         // a node runs what waits there of a task that it has withdrawn
  keeps_old_figures,      // a node's isolates stay as its first status told them
  hand_back_counts,       // a job that is handed back has one retry less
};

#ifdef SLUICE_MUTANTS
inline Mutant active_mutant = Mutant::none;
#define MUTANT(name) (::sluice::active_mutant == ::sluice::Mutant::name)
#else
#define MUTANT(name) false
#endif

}  // namespace sluice
