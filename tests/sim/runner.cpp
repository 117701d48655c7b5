#include "tests/sim/runner.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "common/check.h"

namespace sluice::sim {

namespace {

// Seeds of each child that are run twice: the same seed is the same run.
constexpr std::uint64_t kRunTwice = 2;
constexpr std::size_t kFailuresKept = 32;

// What a child tells its parent: plain memory that both see.
struct Told {
  std::uint64_t seed;
  char invariant[48];
  char detail[700];
};

struct ChildPage {
  std::atomic<std::uint64_t> running;  // 1 + position of the seed, 0 = none
  std::uint64_t seeds_run;
  Coverage coverage;
  std::uint32_t told_count;
  Told told[kFailuresKept];
};

struct SharedPage {
  std::atomic<std::uint64_t> next;      // position of the next seed to run
  std::atomic<std::uint64_t> failures;  // of all children
  std::atomic<bool> is_enough;
};

template <typename Page>
struct Unmap {
  void operator()(Page* page) const { munmap(page, sizeof(Page)); }
};

template <typename Page>
using Mapped = std::unique_ptr<Page, Unmap<Page>>;

// Zeroes, seen by the children that are forked afterwards.
template <typename Page>
Mapped<Page> map_page() {
  void* memory =
      mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return Mapped<Page>(new (memory) Page{});
}

void copy_text(std::span<char> to, const std::string& text) {
  const std::size_t size = std::min(text.size(), to.size() - 1);
  std::memcpy(to.data(), text.data(), size);
  to[size] = 0;
}

void tell(ChildPage& page, std::uint64_t seed, const Violation& violation) {
  // The last place is for what comes last: it may be what the plan waits for.
  page.told_count = std::min<std::uint32_t>(page.told_count, kFailuresKept - 1);
  Told& told = page.told[page.told_count];
  told.seed = seed;
  copy_text(told.invariant, violation.invariant);
  copy_text(told.detail, violation.detail);
  ++page.told_count;
}

void run_seed(const Plan& plan, std::uint64_t seed, bool is_run_twice, ChildPage& page) {
  RunOptions options = plan.like;
  options.seed = seed;
  const std::uint64_t hash = run_one(options, page.coverage);
  if (!is_run_twice) return;
  Coverage again;
  if (run_one(options, again) != hash)
    throw Violation{"deterministic", "run twice, the seed gives two hashes"};
}

// Takes seeds until there are none. Leaves the process.
[[noreturn]] void run_child(const Plan& plan, SharedPage& shared, ChildPage& page) {
  while (!shared.is_enough) {
    const std::uint64_t position = shared.next++;
    if (position >= plan.seeds.size()) break;
    page.running = position + 1;
    const std::uint64_t seed = plan.seeds[position];
    try {
      run_seed(plan, seed, plan.until.empty() && page.seeds_run < kRunTwice, page);
    } catch (const Violation& violation) {
      tell(page, seed, violation);
      const bool is_it = violation.invariant == plan.until;
      if (++shared.failures >= plan.failures_max || is_it) shared.is_enough = true;
    }
    ++page.seeds_run;
    page.running = 0;
  }
  std::fflush(nullptr);
  _exit(0);
}

class Children {
 public:
  explicit Children(const Plan& plan) : plan_(plan), shared_(map_page<SharedPage>()) {}

  void run() {
    const std::size_t count = std::clamp<std::size_t>(plan_.jobs, 1, plan_.seeds.size());
    for (std::size_t i = 0; i < count; ++i)
      start();
    for (std::size_t ended = 0; ended < children_.size(); ++ended)
      wait_for_one();
  }

  void gather(Report& report) const {
    for (const Child& child : children_) {
      const ChildPage& page = *child.page;
      report.coverage.add(page.coverage);
      report.seeds_run += page.seeds_run;
      for (std::uint32_t i = 0; i < page.told_count; ++i) {
        const Told& told = page.told[i];
        report.failures.push_back({told.seed, {told.invariant, told.detail}});
      }
    }
    std::sort(report.failures.begin(), report.failures.end(), [](const auto& a, const auto& b) {
      return a.seed < b.seed;
    });
  }

 private:
  struct Child {
    pid_t pid = 0;
    Mapped<ChildPage> page;
  };

  void start() {
    Child child{0, map_page<ChildPage>()};
    std::fflush(nullptr);
    child.pid = fork();
    CHECK(child.pid >= 0);
    if (child.pid == 0) run_child(plan_, *shared_, *child.page);
    children_.push_back(std::move(child));
  }

  void wait_for_one() {
    int status = 0;
    const pid_t pid = wait(&status);
    CHECK(pid > 0);
    const auto child = std::find_if(children_.begin(), children_.end(), [&](const Child& each) {
      return each.pid == pid;
    });
    if (child == children_.end() || child->page->running == 0) return;
    // It died within a seed; what it was is on stderr.
    const std::uint64_t seed = plan_.seeds[child->page->running - 1];
    tell(*child->page, seed, {"no_crash", "the process ended: a CHECK or a sanitizer, see above"});
    ++child->page->seeds_run;
    if (++shared_->failures >= plan_.failures_max) shared_->is_enough = true;
    if (!shared_->is_enough) start();
  }

  const Plan& plan_;
  Mapped<SharedPage> shared_;
  std::vector<Child> children_;
};

}  // namespace

std::string replay_line(const RunOptions& run) {
  return "sluice-sim --seed " + std::to_string(run.seed) + " --events " +
         std::to_string(run.events) +
         (run.data_loss == DataLoss::always  ? " --data-loss"
          : run.data_loss == DataLoss::drawn ? " --some-data-loss"
                                             : "") +
         (run.has_plain_nodes ? " --plain-nodes" : "") + " --verbose";
}

std::uint64_t run_one(const RunOptions& options, Coverage& coverage) {
  World world(options, coverage);
  world.run();
  return world.hash();
}

Report run(const Plan& plan) {
  Report report;
  const auto started = std::chrono::steady_clock::now();
  Children children(plan);
  children.run();
  children.gather(report);
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return report;
}

}  // namespace sluice::sim
