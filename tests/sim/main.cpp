// sluice-sim: runs seeds, prints what happened in them, and says which promise broke and how to see
// it again.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "common/mutant.h"
#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

struct MutantName {
  Mutant mutant;
  const char* name;
};

constexpr MutantName kMutants[] = {
    {Mutant::speaks_before_durable, "speaks_before_durable"},
    {Mutant::ignores_fence, "ignores_fence"},
    {Mutant::retry_off_by_one, "retry_off_by_one"},
    {Mutant::forgets_cancel, "forgets_cancel"},
    {Mutant::slot_freed_at_timeout, "slot_freed_at_timeout"},
    {Mutant::acks_unrecorded, "acks_unrecorded"},
    {Mutant::epoch_not_raised, "epoch_not_raised"},
};

struct Options {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 2000;
  std::uint64_t events = 5000;
  bool verbose = false;
  bool loses_data = false;
  bool all_mutants = false;
  std::string mutant;
};

char running_seed[128];  // for the signal handler

extern "C" void on_abort(int) {
  (void)!write(STDERR_FILENO, running_seed, std::strlen(running_seed));
  _exit(1);
}

void say_usage() {
  std::puts(
      "sluice-sim [--seeds N] [--seed N] [--events N] [--verbose] [--data-loss]\n"
      "           [--mutant NAME] [--mutants]\n"
      "  --seed N      this one; with --verbose everything that happens in it\n"
      "  --seeds N     so many, from 1 or from --from N (default 2000)\n"
      "  --events N    of each seed's run (default 5000)\n"
      "  --data-loss   Redis also loses its last second or everything, and clocks jump\n"
      "  --mutant NAME one deliberate mistake: exit 0 only if it is caught\n"
      "  --mutants     all of them");
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
      options.verbose = true;
    } else if (flag == "--data-loss") {
      options.loses_data = true;
    } else if (flag == "--mutants") {
      options.all_mutants = true;
    } else if (flag == "--mutant" && has_value) {
      options.mutant = argv[++i];
    } else if (flag == "--seed" && has_value) {
      options.first_seed = number();
      options.seeds = 1;
    } else if (flag == "--from" && has_value) {
      options.first_seed = number();
    } else if (flag == "--seeds" && has_value) {
      options.seeds = number();
    } else if (flag == "--events" && has_value) {
      options.events = number();
    } else {
      return std::nullopt;
    }
  }
  return options;
}

std::string replay_line(const RunOptions& run) {
  return "sluice-sim --seed " + std::to_string(run.seed) + " --events " +
         std::to_string(run.events) + (run.loses_data ? " --data-loss" : "") + " --verbose";
}

// Nothing when every promise held.
std::optional<Violation> run_seed(const RunOptions& options,
                                  Coverage& coverage,
                                  std::uint64_t& hash) {
  std::snprintf(running_seed, sizeof running_seed, "%s\n", replay_line(options).c_str());
  World world(options, coverage);
  try {
    world.run();
  } catch (const Violation& violation) {
    return violation;
  }
  hash = world.hash();
  return std::nullopt;
}

bool is_caught(const MutantName& mutant, const Options& options) {
  active_mutant = mutant.mutant;
  Coverage coverage;
  for (std::uint64_t i = 0; i < options.seeds; ++i) {
    std::uint64_t hash = 0;
    const auto violation =
        run_seed({options.first_seed + i, options.events, false, options.loses_data},
                 coverage,
                 hash);
    if (!violation) continue;
    // A seed that fails without the mistake as well has not caught it.
    active_mutant = Mutant::none;
    Coverage without;
    const bool is_known_bad =
        run_seed({options.first_seed + i, options.events, false, options.loses_data}, without, hash)
            .has_value();
    active_mutant = mutant.mutant;
    if (is_known_bad) continue;
    std::printf("  %-24s caught by %-24s after %llu seeds\n",
                mutant.name,
                violation->invariant.c_str(),
                static_cast<unsigned long long>(i + 1));
    active_mutant = Mutant::none;
    return true;
  }
  std::printf("  %-24s NOT CAUGHT in %llu seeds\n",
              mutant.name,
              static_cast<unsigned long long>(options.seeds));
  active_mutant = Mutant::none;
  return false;
}

int run_mutants(const Options& options) {
  bool all_caught = true;
  bool any = false;
  std::puts("deliberate mistakes");
  for (const MutantName& mutant : kMutants) {
    if (!options.all_mutants && options.mutant != mutant.name) continue;
    any = true;
    all_caught = is_caught(mutant, options) && all_caught;
  }
  if (!any) {
    std::printf("no mutant is called %s\n", options.mutant.c_str());
    return 2;
  }
  return all_caught ? 0 : 1;
}

// One column of "name count"; returns whether none is zero.
template <typename What, std::size_t Count>
bool print_counts(const char* title,
                  const std::array<std::uint64_t, Count>& counts,
                  bool loses_data) {
  bool none_is_zero = true;
  std::printf("%s\n", title);
  for (std::size_t i = 0; i < Count; ++i) {
    if (is_data_loss(static_cast<What>(i)) && !loses_data) continue;
    std::printf("  %-28s %10llu%s\n",
                to_string(static_cast<What>(i)),
                static_cast<unsigned long long>(counts[i]),
                counts[i] == 0 ? "  <- never happened" : "");
    none_is_zero = none_is_zero && counts[i] > 0;
  }
  return none_is_zero;
}

int run_seeds(const Options& options) {
  Coverage coverage;
  const auto started = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < options.seeds; ++i) {
    const RunOptions run{options.first_seed + i,
                         options.events,
                         options.verbose,
                         options.loses_data};
    std::uint64_t hash = 0;
    auto violation = run_seed(run, coverage, hash);
    if (!violation && i < 3 && options.seeds > 1) {  // twice the same is the same
      Coverage again;
      std::uint64_t other = 0;
      violation = run_seed(run, again, other);
      if (!violation && hash != other) violation = Violation{"deterministic", "two hashes"};
    }
    if (!violation) continue;
    std::printf("FAILED %s: %s\n  %s\n",
                violation->invariant.c_str(),
                violation->detail.c_str(),
                replay_line(run).c_str());
    return 1;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  bool is_full = print_counts<Fault>("faults", coverage.faults, options.loses_data);
  is_full = print_counts<Sometimes>("sometimes", coverage.sometimes, options.loses_data) && is_full;
  std::printf(
      "%llu seeds, %llu events, %.0f events/s, %.1f s, %.1f hours simulated, %llu jobs, %llu "
      "attempts, "
      "%llu jobs excused (broker and Redis lost in the same second)\n",
      static_cast<unsigned long long>(options.seeds),
      static_cast<unsigned long long>(coverage.events),
      static_cast<double>(coverage.events) / std::max(seconds, 1e-9),
      seconds,
      static_cast<double>(coverage.simulated_ms) / 3.6e6,
      static_cast<unsigned long long>(coverage.jobs),
      static_cast<unsigned long long>(coverage.attempts),
      static_cast<unsigned long long>(coverage.excused_jobs));
  if (options.seeds >= 100 && !is_full) {
    std::puts("something never happened: this run proves less than it says");
    return 1;
  }
  return 0;
}

}  // namespace

}  // namespace sluice::sim

int main(int argc, char** argv) {
  std::signal(SIGABRT, sluice::sim::on_abort);
  const auto options = sluice::sim::parse(argc, argv);
  if (!options) {
    sluice::sim::say_usage();
    return 2;
  }
  if (options->all_mutants || !options->mutant.empty()) return sluice::sim::run_mutants(*options);
  return sluice::sim::run_seeds(*options);
}
