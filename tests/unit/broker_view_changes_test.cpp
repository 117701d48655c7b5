#include <gtest/gtest.h>

#include "broker/core/records.h"
#include "broker/store/view_changes.h"
#include "tests/support/log_entries.h"

namespace sluice::broker_view_changes_test {
namespace {

using test::entry_of;
using test::job_of;

Change change_of(const Job& job, bool has_payload) {
  const LogEntryPtr entry = entry_of(job, has_payload);
  const auto heads = read_heads(entry->blob);
  Change change{.entry = entry, .record = heads->jobs.at(0)};
  change.has_payload = change.is_born = has_payload;
  if (has_payload) change.payload_entry = entry;
  change.payload = change.record.payload;
  return change;
}

TEST(ViewChanges, keeps_the_newest_record_in_the_order_of_the_first) {
  ViewChanges changes;
  changes.add(change_of(job_of("a", JobState::queued, 1), true));
  changes.add(change_of(job_of("b", JobState::queued, 1), true));
  changes.add(change_of(job_of("a", JobState::running, 2), false));
  const std::vector<Change> taken = changes.take();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].record.id, "a");
  EXPECT_EQ(taken[0].record.state, JobState::running);
  EXPECT_EQ(taken[1].record.id, "b");
  EXPECT_TRUE(changes.empty());
}

TEST(ViewChanges, the_payload_of_the_submit_outlives_its_entry) {
  ViewChanges changes;
  changes.add(change_of(job_of("a", JobState::queued, 1), true));
  changes.add(change_of(job_of("a", JobState::running, 2), false));
  changes.add(change_of(job_of("a", JobState::failed, 3), false));
  const std::vector<Change> taken = changes.take();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_TRUE(taken[0].has_payload);
  EXPECT_TRUE(taken[0].is_born);
  EXPECT_EQ(taken[0].payload, "payload of a");
}

TEST(ViewChanges, a_completed_job_needs_its_payload_only_if_it_keeps_it) {
  for (const bool keep : {false, true}) {
    ViewChanges changes;
    changes.add(change_of(job_of("a", JobState::queued, 1), true));
    Job done = job_of("a", JobState::completed, 2);
    done.spec.keep_payload = keep;
    changes.add(change_of(done, false));
    const std::vector<Change> taken = changes.take();
    EXPECT_EQ(taken.at(0).has_payload, keep);
    EXPECT_EQ(taken.at(0).payload_entry != nullptr, keep);
    EXPECT_TRUE(taken.at(0).is_born);
  }
}

TEST(ViewChanges, what_is_not_new_stays_not_new) {
  ViewChanges changes;
  Change known = change_of(job_of("a", JobState::queued, 1), true);
  known.is_born = false;  // a round that failed may have written it
  changes.add(std::move(known));
  changes.add(change_of(job_of("a", JobState::running, 2), true));
  EXPECT_FALSE(changes.take().at(0).is_born);
}

TEST(ViewChanges, a_removal_covers_what_was_there_and_a_new_submit_covers_the_removal) {
  ViewChanges changes;
  const Job job = job_of("a", JobState::failed, 1);
  changes.add(change_of(job, true));
  const LogEntryPtr entry = entry_of(job, false);
  changes.add({.entry = entry, .record = {.id = "a"}, .is_removed = true});
  changes.add(change_of(job_of("b", JobState::queued, 2), true));
  std::vector<Change> taken = changes.take();
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_TRUE(taken[0].is_removed);
  changes.add(std::move(taken[0]));
  changes.add(change_of(job_of("a", JobState::queued, 3), true));
  taken = changes.take();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_FALSE(taken[0].is_removed);
  EXPECT_FALSE(taken[0].is_born) << "the view may still have the removed one";
}

TEST(ViewChanges, finds_each_of_many) {
  ViewChanges changes;
  for (const std::uint64_t batch : {1, 2})
    for (int i = 0; i < 5000; ++i)
      changes.add(change_of(
          job_of("j" + std::to_string(i), batch == 1 ? JobState::queued : JobState::running, batch),
          batch == 1));
  const std::vector<Change> taken = changes.take();
  ASSERT_EQ(taken.size(), 5000u);
  for (const Change& change : taken) {
    EXPECT_EQ(change.record.state, JobState::running);
    EXPECT_EQ(change.payload, "payload of " + std::string(change.record.id));
  }
}

}  // namespace
}  // namespace sluice::broker_view_changes_test
