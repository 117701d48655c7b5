#include <rapidcheck.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "broker/store/log_entry.h"
#include "broker/store/replay.h"
#include "tests/support/log_entries.h"

namespace sluice::broker_replay_test {
namespace {

using test::entry_of;
using test::job_of;

LogEntryPtr removal_of(std::string_view id, std::uint64_t n) {
  BatchWrites writes;
  writes.removed = {{JobId(id), {hash_id(id), 5, JobState::failed, 6}}};
  return entry_of(n, writes);
}

// What the view has of jobs that are not live.
using Payloads = std::map<std::string, std::string>;

std::optional<Error> replay(Opened& opened, const Payloads& view = {}) {
  return replay_log(opened, [&](const JobId& id) -> std::optional<std::string> {
    const auto found = view.find(id.str());
    if (found == view.end()) return std::nullopt;
    return found->second;
  });
}

TEST(Replay, a_newer_record_goes_over_that_of_the_view_and_keeps_its_payload) {
  Opened opened;
  opened.snapshot.jobs = {job_of("a", JobState::queued, 1), job_of("b", JobState::queued, 2)};
  opened.unprojected = {entry_of(job_of("a", JobState::running, 3), false),
                        entry_of(job_of("c", JobState::pending, 4), true)};
  ASSERT_FALSE(replay(opened));
  const auto& jobs = opened.snapshot.jobs;
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].state, JobState::running);
  EXPECT_EQ(jobs[0].batch, 3U);
  EXPECT_EQ(jobs[1].state, JobState::queued);
  EXPECT_EQ(jobs[2].state, JobState::pending);
  for (const Job& job : jobs) {
    EXPECT_EQ(job.spec.payload, "payload of " + job.id().str());
    EXPECT_FALSE(job.is_payload_lost);
  }
}

TEST(Replay, a_job_that_was_not_live_has_the_payload_of_the_view_or_is_known_to_have_none) {
  Opened opened;
  Job completed = job_of("done", JobState::completed, 7);
  opened.unprojected = {entry_of(job_of("retried", JobState::queued, 5), false),
                        entry_of(job_of("gone", JobState::queued, 6), false),
                        entry_of(completed, false),
                        entry_of(job_of("gone", JobState::running, 8), false)};
  ASSERT_FALSE(replay(opened, {{"retried", "kept"}}));
  const auto& jobs = opened.snapshot.jobs;
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].spec.payload, "kept");
  EXPECT_FALSE(jobs[0].is_payload_lost);
  EXPECT_EQ(jobs[1].state, JobState::running);
  EXPECT_TRUE(jobs[1].is_payload_lost) << "that it runs since does not bring it back";
  EXPECT_FALSE(jobs[2].is_payload_lost) << "a completed one needs none";
}

// A round of the view that was broken off has written jobs that are newer than its checkpoint.
TEST(Replay, an_older_record_changes_nothing_but_brings_its_payload) {
  Opened opened;
  opened.snapshot.jobs = {job_of("a", JobState::running, 9)};
  opened.snapshot.jobs[0].spec.payload.clear();
  opened.snapshot.jobs[0].is_payload_lost = true;
  opened.unprojected = {entry_of(job_of("a", JobState::queued, 5), true)};
  ASSERT_FALSE(replay(opened));
  const Job& job = opened.snapshot.jobs.at(0);
  EXPECT_EQ(job.state, JobState::running);
  EXPECT_EQ(job.batch, 9U);
  EXPECT_EQ(job.spec.payload, "payload of a");
  EXPECT_FALSE(job.is_payload_lost);
}

TEST(Replay, a_removed_job_is_gone_and_remembered_unless_it_came_again) {
  Opened opened;
  opened.snapshot.ended = {{hash_id("old"), 1, JobState::completed, 2}};
  opened.snapshot.jobs = {job_of("a", JobState::failed, 1), job_of("b", JobState::failed, 1)};
  opened.unprojected = {removal_of("a", 2),
                        removal_of("b", 3),
                        removal_of("cold", 4),
                        entry_of(job_of("b", JobState::queued, 5), true)};
  ASSERT_FALSE(replay(opened));
  const Snapshot& snapshot = opened.snapshot;
  ASSERT_EQ(snapshot.jobs.size(), 1U);
  EXPECT_EQ(snapshot.jobs[0].id(), JobId("b"));
  EXPECT_EQ(snapshot.jobs[0].state, JobState::queued);
  std::map<std::string, std::uint64_t> deleted;
  for (const DeletedJob& each : snapshot.deleted)
    deleted[each.id.str()] = each.batch;
  EXPECT_EQ(deleted, (std::map<std::string, std::uint64_t>{{"a", 2}, {"cold", 4}}));
  ASSERT_EQ(snapshot.ended.size(), 4U) << "oldest first";
  EXPECT_EQ(snapshot.ended[0].id, hash_id("old"));
  EXPECT_EQ(snapshot.ended[3].id, hash_id("cold"));
}

TEST(Replay, queues_are_those_of_the_newest_entry_and_the_sequence_only_grows) {
  Opened opened;
  opened.snapshot.queues = {{"a", false, {.submitted = 1}}, {"b", true, {}}};
  opened.snapshot.next_sequence = 50;
  const QueueRecord older{"a", true, {.submitted = 2}};
  const QueueRecord newer{"a", false, {.submitted = 3}};
  const QueueRecord added{"c", true, {}};
  BatchWrites writes;
  writes.queues = {&older, &added};
  writes.next_sequence = 60;
  opened.unprojected = {entry_of(1, writes)};
  writes.queues = {&newer};
  writes.next_sequence = 55;
  opened.unprojected.push_back(entry_of(2, writes));
  ASSERT_FALSE(replay(opened));
  EXPECT_EQ(opened.snapshot.queues, (std::vector<QueueRecord>{newer, {"b", true, {}}, added}));
  EXPECT_EQ(opened.snapshot.next_sequence, 60U);
}

TEST(Replay, an_entry_that_is_malformed_is_an_error) {
  Opened opened;
  const LogEntryPtr good = entry_of(job_of("a", JobState::queued, 1), true);
  const std::string cut = good->blob.substr(0, good->blob.size() - 1);
  opened.unprojected = {good, std::make_shared<const LogEntry>(LogEntry{2, cut})};
  const auto error = replay(opened);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::malformed);
  EXPECT_EQ(error->where, "log");
}

// ---------------------------------------------------------------- any history

using Model = std::map<std::string, Job>;

// A log, and how the jobs stood after each of its entries ([0]: before the first).
struct History {
  std::vector<LogEntryPtr> log;
  std::vector<Model> after{{}};

  // One job comes, changes, or is removed by an operator once it has ended.
  void step(const std::string& id) {
    const std::uint64_t n = log.size() + 1;
    Model model = after.back();
    const auto found = model.find(id);
    const bool is_new = found == model.end();
    if (!is_new && is_ended(found->second.state) && *rc::gen::arbitrary<bool>()) {
      model.erase(found);
      log.push_back(removal_of(id, n));
    } else {
      Job job = job_of(id, *rc::gen::elementOf(kStates), n);
      job.spec.payload = is_new ? id + std::to_string(n) : found->second.spec.payload;
      log.push_back(entry_of(job, is_new));
      model[id] = std::move(job);
    }
    after.push_back(std::move(model));
  }

  // Failed and cancelled ones keep their payload: a person may retry them.
  const std::vector<JobState> kStates = {
      JobState::queued, JobState::running, JobState::failed, JobState::cancelled};
};

std::map<std::string, std::string> live_texts(const auto& jobs) {
  std::map<std::string, std::string> texts;
  for (const Job& job : jobs)
    if (!is_ended(job.state))
      texts[job.id().str()] = std::string(to_string(job.state)) + std::to_string(job.batch) + " " +
                              job.spec.payload + (job.is_payload_lost ? " lost" : "");
  return texts;
}

std::vector<Job> values(const Model& model) {
  std::vector<Job> jobs;
  for (const auto& [id, job] : model)
    jobs.push_back(job);
  return jobs;
}

// The view as a broken-off round leaves it: its checkpoint is behind some of what it shows.
TEST(Replay, leads_from_any_view_to_the_end_of_the_log) {
  EXPECT_TRUE(rc::check([] {
    History history;
    for (int left = *rc::gen::inRange(1, 30); left > 0; --left)
      history.step(*rc::gen::elementOf(std::vector<std::string>{"a", "b", "c"}));
    const std::size_t shown = *rc::gen::inRange<std::size_t>(0, history.log.size() + 1);
    const std::size_t checkpoint = *rc::gen::inRange<std::size_t>(0, shown + 1);
    Opened opened;
    Payloads payloads;
    for (const Job& job : values(history.after[shown])) {
      payloads[job.id().str()] = job.spec.payload;
      if (!is_ended(job.state)) opened.snapshot.jobs.push_back(job);
    }
    opened.unprojected.assign(history.log.begin() + static_cast<std::ptrdiff_t>(checkpoint),
                              history.log.end());
    RC_ASSERT(!replay(opened, payloads));
    RC_ASSERT(live_texts(opened.snapshot.jobs) == live_texts(values(history.after.back())));
  }));
}

}  // namespace
}  // namespace sluice::broker_replay_test
