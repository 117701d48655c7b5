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
  slot_freed_at_timeout,  // the worker takes a slot for free while the attempt still runs
  acks_unrecorded,        // a result is acknowledged though the store is down
  epoch_not_raised,       // a broker takes over under the epoch that it found
};

#ifdef SLUICE_MUTANTS
inline Mutant active_mutant = Mutant::none;
#define MUTANT(name) (::sluice::active_mutant == ::sluice::Mutant::name)
#else
#define MUTANT(name) false
#endif

}  // namespace sluice
