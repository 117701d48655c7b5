#include <gtest/gtest.h>

#include "broker/core/queue_table.h"

namespace sluice {
namespace {

struct Fixture {
  JobTable jobs;
  QueueTable queues{jobs};

  JobSlot add(const std::string& id,
              std::uint64_t sequence,
              Priority priority = Priority::normal,
              const std::string& queue = "q",
              const std::string& task = "t") {
    Job job;
    job.spec.id = JobId(id);
    job.spec.queue = queue;
    job.spec.task = task;
    job.spec.priority = priority;
    job.state = JobState::queued;
    job.sequence = sequence;
    const JobSlot slot = jobs.insert(std::move(job));
    jobs.at(slot).line = queues.line(queue, task);
    queues.enter(slot);
    return slot;
  }

  std::vector<std::string> drain(LineIndex line) {
    std::vector<std::string> order;
    while (const LineHead* head = queues.head(line)) {
      order.push_back(jobs.at(head->slot).job.id().str());
      queues.pop(line);
    }
    return order;
  }
};

TEST(QueueTable, is_strict_by_priority_and_first_in_first_out_inside_one) {
  Fixture f;
  f.add("a", 1, Priority::low);
  f.add("b", 2);
  f.add("c", 3, Priority::critical);
  f.add("d", 4);
  f.add("e", 5, Priority::high);
  EXPECT_EQ(f.drain(0), (std::vector<std::string>{"c", "e", "b", "d", "a"}));
}

TEST(QueueTable, a_job_that_comes_back_with_its_old_sequence_is_first_again) {
  Fixture f;
  f.add("b", 2);
  f.add("c", 3);
  f.add("a", 1);
  EXPECT_EQ(f.drain(0), (std::vector<std::string>{"a", "b", "c"}));
}

TEST(QueueTable, passes_over_jobs_that_have_left) {
  Fixture f;
  const JobSlot a = f.add("a", 1);
  const JobSlot b = f.add("b", 2);
  f.add("c", 3);
  f.jobs.at(a).job.state = JobState::cancelled;
  f.jobs.erase(b);
  EXPECT_EQ(f.drain(0), (std::vector<std::string>{"c"}));
  f.queues.sweep_ready();
  EXPECT_TRUE(f.queues.ready_lines().empty());
}

TEST(QueueTable, a_recycled_slot_is_not_taken_for_the_job_that_left_it) {
  Fixture f;
  const JobSlot a = f.add("a", 1);
  f.jobs.erase(a);
  f.jobs.recycle();
  const JobSlot b = f.add("b", 2, Priority::normal, "other");
  ASSERT_EQ(a, b);
  EXPECT_TRUE(f.drain(0).empty());
  EXPECT_EQ(f.drain(1), (std::vector<std::string>{"b"}));
}

TEST(QueueTable, tasks_of_one_queue_have_lines_of_their_own) {
  Fixture f;
  f.add("a", 1, Priority::normal, "q", "t1");
  f.add("b", 2, Priority::normal, "q", "t2");
  EXPECT_EQ(f.queues.queue_count(), 1U);
  EXPECT_EQ(f.queues.line_count(), 2U);
  EXPECT_EQ(f.drain(1), (std::vector<std::string>{"b"}));
}

}  // namespace
}  // namespace sluice
