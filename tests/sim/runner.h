// Runs seeds in child processes, one for each core, and gathers what happened. A child that dies (a
// CHECK, a sanitizer) is a failure of the seed that it was running; another goes on with the rest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/coverage.h"
#include "tests/sim/ledger.h"
#include "tests/sim/world.h"

namespace sluice::sim {

struct Failure {
  std::uint64_t seed = 0;
  Violation violation;
};

struct Plan {
  std::vector<std::uint64_t> seeds;
  RunOptions like;  // each seed runs with these
  unsigned jobs = 1;
  std::size_t failures_max = 10;  // then no more seeds are begun
  std::string until;              // or when a checker of this name has failed one
};

struct Report {
  Coverage coverage;
  std::vector<Failure> failures;  // by seed
  std::uint64_t seeds_run = 0;
  double seconds = 0;
};

[[nodiscard]] Report run(const Plan& plan);

// Runs one seed here. Throws Violation. Returns the hash of everything that was said and written.
std::uint64_t run_one(const RunOptions& options, Coverage& coverage);

// The command that shows this seed again.
[[nodiscard]] std::string replay_line(const RunOptions& run);

}  // namespace sluice::sim
