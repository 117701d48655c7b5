// Processes that are kept and given one job after another: what isolates and kept programs have in
// common. How one is started and what is spoken with it is its PoolKind's.
//
// Each task has a pool of its own. It begins with `processes_min`, grows by one whenever a job
// finds all of them busy, up to `processes_max`, and goes back after `idle`. A job beyond that
// waits here, in its slot, first in first out. A process is replaced at once when it dies at work;
// one that dies before it was given anything is replaced at once the first time, then after pauses
// that grow, so that a machine without memory, or a program that is not there, does not make it
// fork in a circle. A job that was given to one that left between two jobs, and did not read it, is
// handed back, once; then a fresh process is made for it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "worker/runtime/pool_settings.h"
#include "worker/runtime/pool_wire.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"

namespace sluice {

struct PoolSetup {
  PoolSettings settings;
  std::unique_ptr<PoolKind> kind;
};

// `pools` are by task. `node` is the mark of what it starts.
[[nodiscard]] std::unique_ptr<Runtime> make_pool_runtime(
    std::map<std::string, PoolSetup, std::less<>> pools, SpawnerChannel& spawner, std::string node);

}  // namespace sluice
