// Deleting ended jobs: the view shows a deleted job a moment longer, and nobody may find it there.
#include <gtest/gtest.h>

#include "broker/core/core.h"
#include "common/protocol/codec.h"

namespace sluice::broker_core_delete_test {
namespace {

constexpr Now kNow{10'000, 1'700'000'000'000};

class CoreDelete : public testing::Test {
 protected:
  void start(Snapshot snapshot = {}) {
    snapshot.epoch = 7;
    snapshot.has_cold_jobs = true;
    core_.emplace(CoreConfig{}, std::move(snapshot), kNow);
  }

  static Job ended_job() {
    Job job;
    job.spec.id = JobId("a");
    job.spec.task = "echo";
    job.spec.content_hash = 5;
    job.state = JobState::failed;
    job.finished_ms = kNow.wall_ms - 1000;
    job.batch = 3;
    return job;
  }

  // What is answered to a request; what it fetches is found in a view that still has the job.
  ReplyBody ask(RequestBody body) {
    Output out;
    core_->handle(RequestReceived{Peer{"p", false}, Request{make_req(1), std::move(body)}},
                  kNow,
                  out);
    fetches_ += out.fetches.size();
    for (const Fetch& fetch : std::exchange(out.fetches, {}))
      core_->handle(FetchedJobs{std::get<FetchJobs>(fetch).token, {ended_job()}}, kNow, out);
    core_->settle(kNow, out);
    EXPECT_EQ(out.replies.size(), 1U);
    return out.replies.empty() ? ReplyBody{} : std::move(out.replies.front().reply.body);
  }

  template <typename Operation>
  std::string status() {
    Operation operation;
    operation.targets.ids = {JobId("a")};
    return std::get<TargetsDone>(ask(std::move(operation))).results.at(0).status;
  }

  std::optional<BrokerCore> core_;
  std::size_t fetches_ = 0;
};

TEST_F(CoreDelete, a_deleted_job_is_not_found_again_in_a_view_that_still_has_it) {
  start();
  EXPECT_EQ(status<Delete>(), "deleted");
  EXPECT_EQ(status<Delete>(), "deleted") << "sent again: its answer may have been lost";
  EXPECT_EQ(status<Retry>(), "too_late");
  const auto jobs = std::get<Jobs>(ask(Get{{JobId("a")}}));
  EXPECT_TRUE(jobs.jobs.at(0).is_result_gone);
  EXPECT_EQ(fetches_, 1U) << "only the first delete had to look";
}

TEST_F(CoreDelete, its_batch_carries_what_is_remembered_of_it) {
  start();
  (void)status<Delete>();
  const BatchWrites& writes = core_->take_writes(9);
  ASSERT_EQ(writes.removed.size(), 1U);
  EXPECT_EQ(writes.removed[0].id, JobId("a"));
  EXPECT_EQ(writes.removed[0].ended.content_hash, 5U);
  EXPECT_EQ(writes.removed[0].ended.state, JobState::failed);
}

TEST_F(CoreDelete, a_restart_remembers_what_was_deleted_behind_the_checkpoint) {
  Snapshot snapshot;
  snapshot.deleted = {{JobId("a"), 9}};
  snapshot.ended = {{hash_id("a"), 5, JobState::failed, kNow.wall_ms}};
  start(std::move(snapshot));
  EXPECT_EQ(status<Retry>(), "too_late");
  EXPECT_EQ(status<Delete>(), "deleted");
  EXPECT_EQ(fetches_, 0U);
  Output out;
  core_->handle(Projected{9}, kNow, out);
  (void)status<Retry>();
  EXPECT_EQ(fetches_, 1U) << "the view has it no more, so it may be asked";
}

}  // namespace
}  // namespace sluice::broker_core_delete_test
