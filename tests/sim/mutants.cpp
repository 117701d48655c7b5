#include "tests/sim/mutants.h"

#include <cstdio>

#include "common/mutant.h"

namespace sluice::sim {

namespace {

struct Mistake {
  Mutant mutant;
  const char* name;
  const char* checker;
};

constexpr Mistake kMistakes[] = {
    {Mutant::speaks_before_durable, "speaks_before_durable", "spoken_is_durable"},
    {Mutant::ignores_fence, "ignores_fence", "one_current_fence"},
    {Mutant::retry_off_by_one, "retry_off_by_one", "attempts_bounded"},
    {Mutant::forgets_cancel, "forgets_cancel", "cancel_wins"},
    {Mutant::slot_freed_at_timeout, "slot_freed_at_timeout", "limit_held"},
    {Mutant::acks_unrecorded, "acks_unrecorded", "result_kept_until_acked"},
    {Mutant::epoch_not_raised, "epoch_not_raised", "fenced_owner"},
    {Mutant::view_forgets_rows, "view_forgets_rows", "no_accepted_job_lost"},
    {Mutant::index_left_behind, "index_left_behind", "index_agrees"},
    {Mutant::log_left_behind, "log_left_behind", "log_goes_with_job"},
    {Mutant::overwrites_result, "overwrites_result", "one_outcome"},
    {Mutant::revision_not_raised, "revision_not_raised", "legal_moves"},
    {Mutant::ignores_backoff, "ignores_backoff", "never_early"},
    {Mutant::ignores_content, "ignores_content", "submit_idempotent"},
    {Mutant::ignores_priority, "ignores_priority", "priority_order"},
    {Mutant::ignores_memory_max, "ignores_memory_max", "memory_bounded"},
    {Mutant::answers_unrecorded, "answers_unrecorded", "checkpoint_recorded"},
    {Mutant::ring_forgets_nothing, "ring_forgets_nothing", "memory_bounded"},
    {Mutant::keeps_old_offer, "keeps_old_offer", "dealt_where_offered"},
    {Mutant::runs_withdrawn, "runs_withdrawn", "dealt_where_offered"},
    {Mutant::hand_back_counts, "hand_back_counts", "attempts_bounded"},
    {Mutant::keeps_old_figures, "keeps_old_figures", "figures_told"},
};

void print(const Mistake& mistake, const Report& report) {
  const Failure* caught = nullptr;
  std::string others;
  for (const Failure& failure : report.failures) {
    if (failure.violation.invariant == mistake.checker) {
      if (caught == nullptr) caught = &failure;
    } else if (others.find(failure.violation.invariant) == others.npos) {
      others += (others.empty() ? "" : ", ") + failure.violation.invariant;
    }
  }
  std::printf("  %-24s %s %-24s",
              mistake.name,
              caught ? "caught by" : "NOT CAUGHT by",
              mistake.checker);
  if (caught != nullptr) std::printf(" seed %llu", static_cast<unsigned long long>(caught->seed));
  std::printf(" (%llu seeds%s%s)\n",
              static_cast<unsigned long long>(report.seeds_run),
              others.empty() ? "" : "; also ",
              others.c_str());
  if (caught != nullptr) std::printf("    %s\n", caught->violation.detail.c_str());
  std::fflush(stdout);
}

bool is_caught(const Mistake& mistake, Plan plan) {
  plan.until = mistake.checker;
  plan.failures_max = plan.seeds.size();
  active_mutant = mistake.mutant;
  const Report report = run(plan);
  active_mutant = Mutant::none;
  print(mistake, report);
  for (const Failure& failure : report.failures)
    if (failure.violation.invariant == mistake.checker) return true;
  return false;
}

}  // namespace

bool run_mutants(const Plan& plan, const std::string& only) {
  std::puts("deliberate mistakes");
  bool all_caught = true;
  bool any = false;
  for (const Mistake& mistake : kMistakes) {
    if (!only.empty() && only != mistake.name) continue;
    any = true;
    all_caught = is_caught(mistake, plan) && all_caught;
  }
  if (!any) std::printf("no mistake is called %s\n", only.c_str());
  return any && all_caught;
}

}  // namespace sluice::sim
