// sluice-sim: runs seeds, prints what happened in them, and says which promise broke and how to see
// it again.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "tests/sim/mutants.h"
#include "tests/sim/regressions.h"
#include "tests/sim/runner.h"

namespace sluice::sim {

namespace {

// From so many seeds on, something that never happened is a failure.
constexpr std::uint64_t kSeedsForCoverage = 100;

struct Options {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 2000;
  unsigned jobs = static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  RunOptions like;
  bool is_fresh = false;
  bool is_single = false;
  bool runs_regressions = false;
  bool runs_mutants = false;
  std::string mutant;
};

void say_usage() {
  std::puts(
      "sluice-sim [--seeds N] [--from N | --fresh | --seed N | --regressions] [--events N]\n"
      "           [--jobs N] [--data-loss | --some-data-loss] [--plain-nodes] [--verbose]\n"
      "sluice-sim --mutants | --mutant NAME   [--seeds N] [--from N]\n"
      "  --seeds N      so many, from 1 or from --from N (default 2000)\n"
      "  --fresh        seeds that nobody has run before: from the clock\n"
      "  --seed N       this one; with --verbose everything that happens in it\n"
      "  --regressions  the seeds that once failed (tests/sim/regressions.h)\n"
      "  --events N     of each seed's run (default 5000)\n"
      "  --jobs N       processes (default: one for each core)\n"
      "  --data-loss    Redis also loses data and clocks jump (--some-data-loss: in a quarter of "
      "the seeds)\n"
      "  --plain-nodes  without isolates, and their tasks stay (else each in half of the seeds), "
      "as "
      "when the regressions failed\n"
      "  --mutants      each deliberate mistake: exit 0 only if its own checker catches it");
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const bool has_value = i + 1 < argc;
    const auto number = [&] {
      return std::strtoull(argv[++i], nullptr, 10);
    };
    if (flag == "--verbose") {
      options.like.verbose = true;
    } else if (flag == "--data-loss") {
      options.like.data_loss = DataLoss::always;
    } else if (flag == "--some-data-loss") {
      options.like.data_loss = DataLoss::drawn;
    } else if (flag == "--plain-nodes") {
      options.like.has_plain_nodes = true;
    } else if (flag == "--fresh") {
      options.is_fresh = true;
    } else if (flag == "--regressions") {
      options.runs_regressions = true;
    } else if (flag == "--mutants") {
      options.runs_mutants = true;
    } else if (flag == "--mutant" && has_value) {
      options.runs_mutants = true;
      options.mutant = argv[++i];
    } else if (flag == "--seed" && has_value) {
      options.first_seed = number();
      options.is_single = true;
    } else if (flag == "--from" && has_value) {
      options.first_seed = number();
    } else if (flag == "--seeds" && has_value) {
      options.seeds = number();
    } else if (flag == "--events" && has_value) {
      options.like.events = number();
    } else if (flag == "--jobs" && has_value) {
      options.jobs = static_cast<unsigned>(number());
    } else {
      return std::nullopt;
    }
  }
  return options;
}

std::uint64_t fresh_seed() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count()) *
         100'000;
}

Plan plan_of(const Options& options) {
  Plan plan;
  plan.like = options.like;
  plan.jobs = options.jobs;
  if (options.runs_regressions) {
    plan.like.has_plain_nodes = true;
    for (const Regression& regression : kRegressions)
      if (regression.loses_data == (options.like.data_loss == DataLoss::always))
        plan.seeds.push_back(regression.seed);
    return plan;
  }
  const std::uint64_t first = options.is_fresh ? fresh_seed() : options.first_seed;
  for (std::uint64_t i = 0; i < options.seeds; ++i)
    plan.seeds.push_back(first + i);
  return plan;
}

int run_single(const Options& options) {
  RunOptions run = options.like;
  run.seed = options.first_seed;
  Coverage coverage;
  try {
    const std::uint64_t hash = run_one(run, coverage);
    std::printf("seed %llu holds every promise: %llu events, hash %016llx\n",
                static_cast<unsigned long long>(run.seed),
                static_cast<unsigned long long>(coverage.events),
                static_cast<unsigned long long>(hash));
    return 0;
  } catch (const Violation& violation) {
    std::printf("FAILED %s: %s\n", violation.invariant.c_str(), violation.detail.c_str());
    return 1;
  }
}

void print_totals(const Report& report) {
  const Coverage& coverage = report.coverage;
  const auto number = [](std::uint64_t value) {
    return static_cast<unsigned long long>(value);
  };
  std::printf(
      "%llu seeds, %llu events, %.0f events/s, %.1f s, %.1f hours simulated, %llu jobs, "
      "%llu attempts\n",
      number(report.seeds_run),
      number(coverage.events),
      static_cast<double>(coverage.events) / std::max(report.seconds, 1e-9),
      report.seconds,
      static_cast<double>(coverage.simulated_ms) / 3.6e6,
      number(coverage.jobs),
      number(coverage.attempts));
  std::printf("%llu jobs excused: Redis lost them while no broker was there that had them\n",
              number(coverage.excused_jobs));
}

int run_seeds(const Options& options);

int run_regressions(Options options) {
  options.like.data_loss = DataLoss::never;
  const int without = run_seeds(options);
  options.like.data_loss = DataLoss::always;
  const int with = run_seeds(options);
  return std::max(without, with);
}

int run_seeds(const Options& options) {
  const Plan plan = plan_of(options);
  if (plan.seeds.empty()) {
    std::puts("no seeds to run");
    return 2;
  }
  std::printf("seeds %llu to %llu%s\n",
              static_cast<unsigned long long>(plan.seeds.front()),
              static_cast<unsigned long long>(plan.seeds.back()),
              options.is_fresh ? " (fresh)" : "");
  const Report report = run(plan);
  for (const Failure& failure : report.failures) {
    RunOptions again = plan.like;
    again.seed = failure.seed;
    std::printf("FAILED %s: %s\n  %s\n",
                failure.violation.invariant.c_str(),
                failure.violation.detail.c_str(),
                replay_line(again).c_str());
  }
  const bool is_full = print_coverage(report.coverage);
  print_totals(report);
  if (!report.failures.empty()) return 1;
  if (plan.seeds.size() >= kSeedsForCoverage && !is_full) {
    std::puts("something never happened: this run proves less than it says");
    return 1;
  }
  return 0;
}

}  // namespace

}  // namespace sluice::sim

int main(int argc, char** argv) {
  const auto options = sluice::sim::parse(argc, argv);
  if (!options) {
    sluice::sim::say_usage();
    return 2;
  }
  if (options->runs_mutants)
    return sluice::sim::run_mutants(sluice::sim::plan_of(*options), options->mutant) ? 0 : 1;
  if (options->runs_regressions) return sluice::sim::run_regressions(*options);
  return options->is_single ? sluice::sim::run_single(*options) : sluice::sim::run_seeds(*options);
}
