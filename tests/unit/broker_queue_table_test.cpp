#include <gtest/gtest.h>

#include "broker/core/queue_table.h"
#include "common/limits.h"

namespace sluice::broker_queue_table_test {
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
  EXPECT_EQ(f.queues.settle(f.queues.ready_lines().begin()), f.queues.ready_lines().end());
  EXPECT_TRUE(f.queues.ready_lines().empty());
}

// Behind one that waits for long, jobs come and are cancelled.
TEST(QueueTable, jobs_that_have_left_take_no_room_for_ever) {
  Fixture f;
  f.add("first", 1);
  std::uint64_t sequence = 1;
  std::size_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    f.jobs.erase(f.add("x" + std::to_string(i), ++sequence));
    f.jobs.recycle();
    most = std::max(most, f.queues.entries(0));
  }
  EXPECT_LE(most, 4'096U);
  f.add("last", ++sequence);
  EXPECT_EQ(f.drain(0), (std::vector<std::string>{"first", "last"}));
}

TEST(QueueTable, ready_lines_stand_in_the_order_of_their_heads_as_jobs_come_and_leave) {
  Fixture f;
  f.add("a", 1, Priority::normal, "one");
  f.add("b", 2, Priority::normal, "two");
  f.add("c", 3, Priority::normal, "three");
  f.add("d", 4, Priority::high, "three");  // comes before all others now
  const JobSlot first = f.add("e", 5, Priority::high, "two");
  f.add("f", 6, Priority::low, "one");
  f.jobs.at(first).job.state = JobState::cancelled;
  std::vector<std::string> order;
  auto place = f.queues.ready_lines().begin();
  while ((place = f.queues.settle(place)) != f.queues.ready_lines().end()) {
    order.push_back(f.jobs.at(place->head.slot).job.id().str());
    f.queues.pop(place->line);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"d", "a", "b", "c", "f"}));
  f.add("g", 7, Priority::normal, "two");
  place = f.queues.settle(f.queues.ready_lines().begin());
  ASSERT_NE(place, f.queues.ready_lines().end()) << "an empty line comes back";
  EXPECT_EQ(f.jobs.at(place->head.slot).job.id().str(), "g");
}

TEST(QueueTable, knows_so_many_queues_and_lines_and_no_more) {
  Fixture f;
  for (std::size_t i = 0; i < kQueuesMax; ++i)
    (void)f.queues.line("q" + std::to_string(i), "t");
  EXPECT_FALSE(f.queues.has_room_for("another"));
  EXPECT_TRUE(f.queues.has_room_for("q7", "another"));
  for (std::size_t i = f.queues.line_count(); i < kLinesMax; ++i)
    (void)f.queues.line("q7", "t" + std::to_string(i));
  EXPECT_FALSE(f.queues.has_room_for("q7", "another"));
  EXPECT_TRUE(f.queues.has_room_for("q8", "t"));
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
}  // namespace sluice::broker_queue_table_test
