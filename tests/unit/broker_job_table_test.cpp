#include <gtest/gtest.h>

#include "broker/core/job_table.h"

namespace sluice::broker_job_table_test {
namespace {

Job job_named(const std::string& id) {
  Job job;
  job.spec.id = JobId(id);
  return job;
}

TEST(JobTable, an_erased_job_is_readable_until_the_turn_is_over_and_found_no_more) {
  JobTable jobs;
  const JobSlot slot = jobs.insert(job_named("a"));
  jobs.erase(slot);
  EXPECT_FALSE(jobs.find(JobId("a")));
  EXPECT_EQ(jobs.at(slot).job.id(), JobId("a"));
  const JobSlot other = jobs.insert(job_named("b"));
  EXPECT_NE(slot, other);
  jobs.recycle();
  EXPECT_EQ(jobs.insert(job_named("c")), slot);
}

TEST(JobTable, counts_the_bytes_of_what_it_holds_and_forgets_them) {
  JobTable jobs;
  Job job = job_named("a");
  job.spec.payload = std::string(100'000, 'x');
  const JobSlot slot = jobs.insert(std::move(job));
  EXPECT_GE(jobs.memory_bytes(), 100'000U);
  free_memory(jobs.at(slot).job.spec.payload);
  jobs.account(slot);
  EXPECT_LT(jobs.memory_bytes(), 10'000U);
  jobs.erase(slot);
  EXPECT_EQ(jobs.memory_bytes(), 0U);
}

EndedRecord ended(const std::string& id, std::int64_t finished_ms) {
  return {hash_id(id), 1, JobState::completed, finished_ms};
}

TEST(EndedMemory, remembers_for_eleven_minutes_from_the_end) {
  EndedMemory memory(100);
  memory.remember(ended("a", 1'000));
  EXPECT_FALSE(memory.trim(1'000 + kEndedKeepMs - 1));
  EXPECT_NE(memory.find(JobId("a")), nullptr);
  EXPECT_TRUE(memory.trim(1'000 + kEndedKeepMs));
  EXPECT_EQ(memory.find(JobId("a")), nullptr);
}

TEST(EndedMemory, remembers_from_the_removal_on_what_is_removed_late) {
  constexpr std::int64_t kRemovedMs = 1'000 + kEndedKeepMs - 1;
  EndedMemory memory(100);
  memory.remember(ended("a", 1'000));
  EndedRecord removed = ended("a", 1'000);
  removed.removed_ms = kRemovedMs;
  memory.remember(removed);
  memory.remember(ended("a", 1'000));  // told again, by who did not know
  EXPECT_EQ(memory.records(), std::deque<EndedRecord>{removed}) << "once, as it is known now";
  memory.trim(kRemovedMs + kEndedKeepMs - 1);
  ASSERT_NE(memory.find(JobId("a")), nullptr);
  EXPECT_EQ(memory.find(JobId("a"))->finished_ms, 1'000);
  memory.trim(kRemovedMs + kEndedKeepMs);
  EXPECT_EQ(memory.find(JobId("a")), nullptr);
}

TEST(EndedMemory, keeps_no_more_than_its_count_and_drops_the_oldest) {
  EndedMemory memory(2);
  memory.remember(ended("a", 1));
  memory.remember(ended("b", 2));
  memory.remember(ended("c", 3));
  EXPECT_TRUE(memory.trim(3));
  EXPECT_EQ(memory.find(JobId("a")), nullptr);
  EXPECT_NE(memory.find(JobId("c")), nullptr);
}

TEST(EndedMemory, a_job_that_ended_twice_is_remembered_by_its_last_end) {
  EndedMemory memory(100);
  memory.remember(ended("a", 1'000));
  memory.remember(ended("a", 2'000));
  memory.trim(1'000 + kEndedKeepMs);
  ASSERT_NE(memory.find(JobId("a")), nullptr);
  EXPECT_EQ(memory.find(JobId("a"))->finished_ms, 2'000);
}

}  // namespace
}  // namespace sluice::broker_job_table_test
