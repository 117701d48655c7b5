#include <gtest/gtest.h>

#include "broker/store/log_entry.h"
#include "broker/store/projector.h"
#include "broker/store/view_row.h"

namespace sluice::broker_projector_test {
namespace {

class ProjectorTest : public testing::Test {
 protected:
  // A batch of `count` jobs in `state`, named from `first` on.
  void add(std::uint64_t n, int first, int count, JobState state, bool has_payload = true) {
    std::vector<Job> jobs(static_cast<std::size_t>(count));
    BatchWrites writes;
    const QueueRecord queue{"default", false, {}};
    writes.queues.push_back(&queue);
    for (Job& job : jobs) {
      job.spec.id = JobId("j" + std::to_string(first++));
      job.state = state;
      job.batch = n;
      job.created_ms = now_.wall_ms;
      job.spec.payload = payload_;
      writes.jobs.push_back({&job, has_payload});
    }
    projector_.add(std::make_shared<const LogEntry>(LogEntry{n, encode_entry(n, 1, writes)}), now_);
  }

  // Calls until there is none; each done before the next.
  std::vector<ProjectRequest> run() {
    std::vector<ProjectRequest> calls;
    while (auto call = projector_.next(now_)) {
      calls.push_back(std::move(*call));
      projector_.done({}, now_);
    }
    return calls;
  }

  void pass(std::int64_t ms) {
    now_.mono_ms += ms;
    now_.wall_ms += ms;
  }

  std::string payload_;
  Now now_{1'000'000, 1'700'000'000'000};
  Projector projector_{{}, 0, 0, 0};
};

TEST_F(ProjectorTest, four_calls_are_out_at_most_and_the_last_moves_the_checkpoint) {
  add(1, 0, 4 * 32 + 16, JobState::queued);
  for (int call = 0; call < 4; ++call) {
    const auto request = projector_.next(now_);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->rows.size(), 32u);
    EXPECT_FALSE(request->checkpoint.has_value());
  }
  EXPECT_FALSE(projector_.next(now_).has_value()) << "four are out";
  projector_.done({}, now_);
  for (int call = 0; call < 3; ++call) {
    EXPECT_FALSE(projector_.next(now_).has_value()) << "one that is out may still be refused";
    projector_.done({}, now_);
  }
  const auto last = projector_.next(now_);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->rows.size(), 16u);
  EXPECT_EQ(last->checkpoint, 1u);
  EXPECT_FALSE(projector_.next(now_).has_value()) << "the round is whole";
  EXPECT_EQ(projector_.checkpoint(), 0u);
  projector_.done({}, now_);
  EXPECT_EQ(projector_.checkpoint(), 1u);
  EXPECT_FALSE(projector_.has_work());
}

TEST_F(ProjectorTest, a_call_has_a_megabyte_of_rows_or_one_that_is_greater) {
  payload_.assign(100'000, 'x');
  add(1, 0, 9, JobState::queued);
  payload_.assign(1'000'000, 'x');
  add(2, 9, 2, JobState::queued);
  payload_.clear();
  add(3, 11, 3, JobState::queued);
  std::vector<std::size_t> rows;
  for (const ProjectRequest& call : run()) {
    rows.push_back(call.rows.size());
    EXPECT_EQ(call.checkpoint.has_value(), rows.size() == 5);
  }
  EXPECT_EQ(rows, (std::vector<std::size_t>{5, 4, 1, 1, 3}));
}

// Seen in the simulator: the first call was refused (LOADING), the second came through and moved
// the checkpoint past rows that the view did not have, and the broker died before it wrote them.
TEST_F(ProjectorTest, the_checkpoint_never_moves_while_a_call_of_its_round_may_be_refused) {
  add(1, 0, 40, JobState::queued);
  ASSERT_TRUE(projector_.next(now_));
  EXPECT_FALSE(projector_.next(now_).has_value());
  EXPECT_EQ(projector_.next_deadline_mono_ms(now_), kNever);
  projector_.failed();
  pass(1000);
  const auto again = projector_.next(now_);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->checkpoint.has_value());
  EXPECT_FALSE(projector_.next(now_).has_value());
  projector_.done({}, now_);
  const auto last = projector_.next(now_);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->checkpoint, 1u);
}

TEST_F(ProjectorTest, a_failed_round_is_written_again_whole_with_what_came_since) {
  add(1, 0, 40, JobState::queued);
  (void)projector_.next(now_);
  projector_.done({}, now_);
  (void)projector_.next(now_);
  add(2, 0, 1, JobState::running, false);
  projector_.failed();
  pass(1000);
  const auto calls = run();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].rows.size() + calls[1].rows.size(), 40u);
  EXPECT_EQ(calls[1].checkpoint, 2u);
  EXPECT_EQ(calls[0].rows[0].job.state, JobState::running);
  EXPECT_TRUE(calls[0].rows[0].has_payload);
}

TEST_F(ProjectorTest, every_call_trims_the_queues_in_which_its_jobs_ended) {
  add(1, 0, 40, JobState::queued);
  (void)run();
  pass(1000);
  add(2, 0, 40, JobState::completed, false);
  const auto calls = run();
  ASSERT_EQ(calls.size(), 2u);
  for (const ProjectRequest& call : calls) {
    EXPECT_EQ(call.trim_queues, (std::vector<std::string>{"default"}));
    EXPECT_EQ(call.trim_before_batch, 1u) << "what stands while the round is written";
  }
}

TEST_F(ProjectorTest, a_queue_in_which_nothing_ends_is_swept_for_old_jobs) {
  projector_.know_queue("quiet");
  ASSERT_EQ(projector_.next_deadline_mono_ms(now_), now_.mono_ms);
  auto sweep = projector_.next(now_);
  ASSERT_TRUE(sweep);
  EXPECT_EQ(sweep->trim_queues, (std::vector<std::string>{"quiet"}));
  projector_.done({.removed = 1}, now_);
  EXPECT_EQ(projector_.next_deadline_mono_ms(now_), now_.mono_ms) << "there may be more";
  ASSERT_TRUE(projector_.next(now_));
  projector_.done({}, now_);
  EXPECT_GT(projector_.next_deadline_mono_ms(now_), now_.mono_ms);
  EXPECT_FALSE(projector_.has_work()) << "a sweep is nothing to wait for";
}

TEST_F(ProjectorTest, what_ended_long_ago_is_removed_with_its_record_by_the_next_call) {
  projector_.know_queue("quiet");
  ASSERT_TRUE(projector_.next(now_));
  const RetiredJob old{JobId("old"),
                       7,
                       {hash_id("old"), 77, JobState::failed, now_.wall_ms - 120'000}};
  projector_.done({.to_retire = {old}}, now_);
  EXPECT_FALSE(projector_.has_work()) << "the next broker finds it again";
  pass(1000);
  auto call = projector_.next(now_);
  ASSERT_TRUE(call);
  ASSERT_EQ(call->retired.size(), 1U);
  EXPECT_EQ(call->retired[0].id, old.id);
  EXPECT_EQ(call->retired[0].batch, 7U);
  EXPECT_EQ(call->retired[0].ended.removed_ms, now_.wall_ms);
  std::vector<EndedRecord> records;
  read_ended(call->ended_blob, records);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].id, hash_id("old"));
  EXPECT_GE(records[0].removed_ms, now_.wall_ms);
  projector_.failed();
  pass(1000);
  EXPECT_FALSE(projector_.next(now_)) << "it may be gone: if not, it is found again";
}

TEST_F(ProjectorTest, what_cannot_be_removed_is_let_be_until_the_next_sweep) {
  projector_.know_queue("quiet");
  ASSERT_TRUE(projector_.next(now_));
  const ProjectReply found{
      .to_retire = {{JobId("old"), 7, {hash_id("old"), 77, JobState::failed, 1000}}}};
  projector_.done(found, now_);
  pass(1000);
  ASSERT_TRUE(projector_.next(now_));
  projector_.done(found, now_);
  EXPECT_GT(projector_.next_deadline_mono_ms(now_), now_.mono_ms);
}

TEST_F(ProjectorTest, what_a_round_leaves_out_long_after_its_end_counts_from_now) {
  ProjectorConfig config;
  config.retention.keep_count = 0;
  Projector projector(config, 0, 0, 0);
  Job job;
  job.spec.id = JobId("late");
  job.state = JobState::completed;
  job.batch = 1;
  job.finished_ms = now_.wall_ms - 12 * 60'000;
  BatchWrites writes;
  writes.jobs.push_back({&job, true});
  projector.add(std::make_shared<const LogEntry>(LogEntry{1, encode_entry(1, 1, writes)}), now_);
  const auto call = projector.next(now_);
  ASSERT_TRUE(call);
  EXPECT_TRUE(call->rows.empty());
  std::vector<EndedRecord> records;
  read_ended(call->ended_blob, records);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_GE(records[0].since_ms(), now_.wall_ms);
}

TEST_F(ProjectorTest, a_job_with_a_log_that_the_view_never_gets_is_removed_for_its_log) {
  ProjectorConfig config;
  config.retention.keep_count = 0;
  Projector projector(config, 0, 0, 0);
  std::vector<Job> jobs(2);
  BatchWrites writes;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].spec.id = JobId(i == 0 ? "quiet" : "logs");
    jobs[i].state = JobState::completed;
    jobs[i].batch = 1;
    jobs[i].finished_ms = now_.wall_ms;
    writes.jobs.push_back({&jobs[i], true});
  }
  projector.note_log(JobId("logs"));
  projector.add(std::make_shared<const LogEntry>(LogEntry{1, encode_entry(1, 1, writes)}), now_);
  const auto call = projector.next(now_);
  ASSERT_TRUE(call);
  EXPECT_TRUE(call->rows.empty());
  EXPECT_EQ(call->removed, std::vector<JobId>{JobId("logs")});
}

TEST_F(ProjectorTest, what_a_call_finds_that_was_sent_before_the_removal_is_not_removed_twice) {
  add(1, 0, 40, JobState::queued);
  (void)run();
  pass(1000);
  add(2, 0, 100, JobState::completed, false);
  for (int calls = 0; calls < 3; ++calls)
    ASSERT_TRUE(projector_.next(now_)) << calls;
  const RetiredJob old{JobId("old"),
                       7,
                       {hash_id("old"), 77, JobState::failed, now_.wall_ms - 120'000}};
  projector_.done({.to_retire = {old}}, now_);
  projector_.done({.to_retire = {old}}, now_);
  projector_.done({.to_retire = {old}}, now_);
  auto last = projector_.next(now_);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->retired.size(), 1U);
  projector_.done({}, now_);
  EXPECT_FALSE(projector_.has_work());
}

TEST_F(ProjectorTest, rounds_that_take_long_come_less_often) {
  add(1, 0, 1, JobState::queued);
  ASSERT_TRUE(projector_.next(now_));
  pass(40);
  projector_.done({}, now_);
  add(2, 1, 1, JobState::queued);
  EXPECT_EQ(projector_.next_deadline_mono_ms(now_), now_.mono_ms + 60) << "100 ms from its start";
  projector_.hurry(2);
  EXPECT_EQ(projector_.next_deadline_mono_ms(now_), now_.mono_ms) << "somebody waits for it";
}

TEST_F(ProjectorTest, lag_counts_from_the_oldest_entry_that_is_not_in_the_view) {
  add(1, 0, 40, JobState::queued);
  EXPECT_EQ(projector_.lag_ms(now_), 0);
  ASSERT_TRUE(projector_.next(now_));
  pass(30);
  EXPECT_EQ(projector_.lag_ms(now_), 30);
  add(2, 40, 1, JobState::queued);
  pass(30);
  EXPECT_EQ(projector_.lag_ms(now_), 60);
  projector_.done({}, now_);
  ASSERT_TRUE(projector_.next(now_));
  projector_.done({}, now_);
  EXPECT_EQ(projector_.lag_ms(now_), 30);
}

}  // namespace
}  // namespace sluice::broker_projector_test
