// Drives a real runtime, under a real spawner, as the node's loop does. Waiting is always for an
// event, never for a time.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/clock.h"
#include "worker/runtime/cgroup_place.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// False for a zombie: that is for its parent to collect.
inline bool is_alive(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
  std::string text{std::istreambuf_iterator<char>(status), {}};
  const std::size_t at = text.rfind(") ");
  return at != std::string::npos && text[at + 2] != 'Z';
}

inline std::vector<pid_t> children_of(pid_t pid) {
  const std::string process = std::to_string(pid);
  std::ifstream file("/proc/" + process + "/task/" + process + "/children");
  std::vector<pid_t> pids;
  for (pid_t child = 0; file >> child;)
    pids.push_back(child);
  return pids;
}

// Every job is of task "t", in queue "q", with fence 7.3, and was tried twice before.
class RuntimeFixture : public testing::Test {
 protected:
  using Values = std::map<std::string, TaskSettings::Value>;

  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer starts a thread after a fork, and a spawner wants to be alone";
#endif
  }

  void build(RuntimeBuilder& builder, Values values) {
    TaskSettings settings("t", std::move(values));
    settings.set_host({.is_in_groups = groups_.has_value()});
    spawner_.set_groups(groups_);
    const auto added = builder.add(settings);
    ASSERT_TRUE(added) << added.error().where << ": " << added.error().detail;
    builder.teach(node_, spawner_);
    builder.prepare(node_, spawner_);
    spawner_.fork();
    runtime_ = builder.build();
  }

  void start(const std::string& id,
             std::string payload = {},
             std::int64_t deadline = kNever,
             std::string content_type = "text/plain") {
    RunJob job = job_of(id);
    job.payload = std::move(payload);
    job.content_type = std::move(content_type);
    start(std::move(job), deadline);
  }

  void start(RunJob job, std::int64_t deadline = kNever) {
    Assignment assignment;
    assignment.job = std::move(job);
    assignment.deadline_mono_ms = deadline;
    runtime_->start(std::move(assignment));
  }

  static RunJob job_of(const std::string& id) {
    RunJob job;
    job.id = JobId(id);
    job.fence = {7, 3};
    job.task = "t";
    job.queue = "q";
    job.retry_count = 2;
    return job;
  }

  void stop(const std::string& id, StopReason reason) {
    runtime_->stop(JobId(id), {7, 3}, reason);
  }

  // One turn of the loop, after something is there to do.
  void turn() {
    const std::int64_t due = runtime_->next_deadline_mono_ms();
    const std::int64_t wait =
        due == kNever ? 20'000 : std::max<std::int64_t>(due - clock_now().mono_ms, 0);
    pollfd item{runtime_->fd(), POLLIN, 0};
    if (::poll(&item, 1, static_cast<int>(wait)) == 0 && due == kNever)
      throw std::runtime_error("nothing happened");
    runtime_->poll(clock_now(), events_);
    check_figures();
  }

  // Whatever happens in a pool, they fit together, and what counts only grows.
  void check_figures() {
    for (const IsolateFigures& now : runtime_->figures()) {
      EXPECT_LE(now.busy, now.total);
      EXPECT_GE(now.jobs, figures_before_.jobs);
      EXPECT_GE(now.crashes, figures_before_.crashes);
      EXPECT_GE(now.recycles, figures_before_.recycles);
      EXPECT_GE(now.busy_ms, figures_before_.busy_ms);
      figures_before_ = now;
    }
  }

  // The next event but for logs, which are gathered in log_.
  RuntimeEvent next() {
    while (true) {
      while (events_.empty())
        turn();
      RuntimeEvent event = std::move(events_.front());
      events_.erase(events_.begin());
      const auto* log = std::get_if<AttemptLog>(&event);
      if (log == nullptr) return event;
      log_[log->id.str()] += log->bytes;
    }
  }

  AttemptResult result() {
    while (true) {
      RuntimeEvent event = next();
      if (auto* done = std::get_if<AttemptDone>(&event)) return std::move(done->result);
    }
  }

  AttemptResult run(std::string payload = {}) {
    start("a", std::move(payload));
    return result();
  }

  AttemptProgress progressed() {
    while (true) {
      RuntimeEvent event = next();
      if (auto* said = std::get_if<AttemptProgress>(&event)) return std::move(*said);
    }
  }

  // The text of the next progress: a handler says so that it is under way.
  std::string progress() {
    return progressed().message;
  }

  [[nodiscard]] IsolateFigures figures() const {
    return runtime_->figures().at(0);
  }

  void TearDown() override {
    runtime_.reset();
  }

  // Our own: the runtime of a test beside us may sweep all processes of its node.
  const std::string node_ = "test@" + std::to_string(::getpid());
  std::optional<CgroupPlace> groups_;  // set before build()
  Spawner spawner_;
  std::unique_ptr<Runtime> runtime_;
  IsolateFigures figures_before_;
  std::vector<RuntimeEvent> events_;
  std::map<std::string, std::string> log_;  // by job
};

}  // namespace sluice
