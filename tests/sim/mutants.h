// The deliberate mistakes of common/mutant.h, and the checker that must catch each of them. A
// mistake that nobody catches means that a checker is missing; one that only another checker
// catches, that its own is blind.
#pragma once

#include <string>

#include "tests/sim/runner.h"

namespace sluice::sim {

// Switches each mistake (or the one called `only`) on and runs the seeds of the plan until its
// checker fails one. Prints a line for each; returns whether all were caught. Nothing called so:
// false, with a sentence.
[[nodiscard]] bool run_mutants(const Plan& plan, const std::string& only);

}  // namespace sluice::sim
