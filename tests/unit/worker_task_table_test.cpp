#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/task_table.h"

namespace sluice::worker_task_table_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Value = TaskSettings::Value;
using Values = std::map<std::string, Value>;

struct Calls {
  std::vector<std::string> names;
  int runtime_count = 0;
  bool opens_channels = false;
  std::size_t channel_count = 0;  // when one was prepared last
  std::string broken_kind;        // which cannot be prepared
  Spawner* spawner = nullptr;
};

class IdleRuntime : public Runtime {
 public:
  explicit IdleRuntime(Calls& calls) : calls_(calls) { ++calls_.runtime_count; }

  ~IdleRuntime() override { --calls_.runtime_count; }

  void start(Assignment) override {}

  void stop(const JobId&, Fence, StopReason) override {}

  [[nodiscard]] int fd() const override { return -1; }

  void poll(Now, std::vector<RuntimeEvent>&) override {}

 private:
  Calls& calls_;
};

// Writes down what it is asked; takes the key `speed`, a number.
class NotingBuilder : public RuntimeBuilder {
 public:
  NotingBuilder(std::string kind, Calls& calls) : kind_(std::move(kind)), calls_(calls) {}

  [[nodiscard]] Result<void> add(TaskSettings& settings) override {
    if (auto speed = settings.take_integer("speed", 0, 9); !speed)
      return tl::unexpected(speed.error());
    else if (*speed == 0)
      settings.doubt("speed", "it will never end");
    calls_.names.push_back(kind_ + " add " + settings.task());
    return {};
  }

  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t concurrency) const override {
    return kind_ == "fast" ? DescriptorNeed{100, 2} : DescriptorNeed{10 * concurrency, 7};
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() override {
    calls_.names.push_back(kind_ + " build");
    return std::make_unique<IdleRuntime>(calls_);
  }

  void prepare(const std::string& node, Spawner& spawner) override {
    calls_.names.push_back(kind_ + " prepare " + node);
    if (calls_.opens_channels) (void)spawner.open_channel();
    calls_.channel_count = spawner.channel_count();
    if (kind_ == calls_.broken_kind) throw std::runtime_error("no");
    calls_.spawner = &spawner;
  }

 private:
  std::string kind_;
  Calls& calls_;
};

class OfferedTasks : public testing::Test {
 protected:
  OfferedTasks() { add_kinds(table_); }

  void add_kinds(TaskTable& table) {
    for (const char* kind : {"exec", "fast", "unused"})
      table.add_kind(kind, std::make_unique<NotingBuilder>(kind, calls_));
  }

  // The refusal, or nothing.
  std::string add(const std::string& task, Values values) {
    return add_to(table_, task, std::move(values));
  }

  static std::string add_to(TaskTable& table, const std::string& task, Values values) {
    const auto added = table.add(TaskSettings(task, std::move(values)));
    return added ? "" : added.error().where + ": " + added.error().detail;
  }

  Calls calls_;
  TaskTable table_;
};

TEST_F(OfferedTasks, a_kind_is_prepared_and_built_once_for_all_its_tasks_and_only_when_used) {
  const std::string fast = "fast";
  EXPECT_EQ(add("b", {{"run", fast}}), "");
  EXPECT_EQ(add("a", {}), "") << "a program, when nothing is said";
  EXPECT_EQ(add("c", {{"run", fast}, {"speed", std::int64_t{9}}}), "");
  EXPECT_THAT(table_.tasks(), ElementsAre("a", "b", "c"));
  table_.prepare("n1@aa");
  const TaskTable::Built built = table_.build();
  EXPECT_THAT(calls_.names,
              ElementsAre("fast add b",
                          "exec add a",
                          "fast add c",
                          "exec prepare n1@aa",
                          "fast prepare n1@aa",
                          "exec build",
                          "fast build"));
  ASSERT_EQ(built.runtimes.size(), 2U);
  EXPECT_EQ(built.by_task.at("b"), built.by_task.at("c"));
  EXPECT_NE(built.by_task.at("a"), built.by_task.at("b"));
}

TEST_F(OfferedTasks, the_runtimes_are_their_owner_s_and_by_task_only_points_at_them) {
  EXPECT_EQ(add("a", {}), "");
  TaskTable::Built built = table_.build();
  EXPECT_EQ(built.by_task.at("a"), built.runtimes.at(0).get());
  built.by_task.clear();
  EXPECT_EQ(calls_.runtime_count, 1);
  built.runtimes.clear();
  EXPECT_EQ(calls_.runtime_count, 0);
}

// As when a node that runs reads a table that it cannot have, and goes on without it.
TEST_F(OfferedTasks, a_table_that_comes_to_nothing_leaves_no_channel_open) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
#endif
  calls_.opens_channels = true;
  EXPECT_EQ(add("a", {}), "");
  table_.prepare("n1@aa");
  const TaskTable::Built built = table_.build();
  EXPECT_EQ(calls_.channel_count, 1U);
  {
    const auto next = table_.make_successor();
    add_kinds(*next);
    EXPECT_EQ(add_to(*next, "a", {}), "");
    EXPECT_EQ(add_to(*next, "b", {{"run", std::string("fast")}}), "");
    calls_.broken_kind = "fast";
    EXPECT_THROW(next->prepare("n1@aa"), std::runtime_error);
    EXPECT_EQ(calls_.channel_count, 3U);
  }
  EXPECT_EQ(calls_.spawner->channel_count(), 1U);
}

TEST_F(OfferedTasks, one_that_is_refused_is_not_offered) {
  const Value fast = std::string("fast");
  EXPECT_EQ(add("a", {{"run", std::string("slow")}}),
            "task.a.run: must be one of exec, fast, unused");
  EXPECT_EQ(add("a", {{"run", true}}), "task.a.run: must be a text");
  EXPECT_EQ(add("a", {{"run", fast}, {"speed", std::int64_t{10}}}),
            "task.a.speed: must be an integer from 0 to 9");
  EXPECT_EQ(add("a", {{"run", fast}, {"spede", std::int64_t{1}}}),
            "task.a.spede: is no setting of this task; did you mean speed?");
  EXPECT_EQ(add("no blanks", {}), "task.no blanks: a task name is [A-Za-z0-9_.-], at most 64");
  EXPECT_NE(add(std::string(kNameBytesMax + 1, 'a'), {}), "");
  EXPECT_NE(add("", {}), "");
  EXPECT_THAT(table_.tasks(), IsEmpty());
  EXPECT_EQ(add("a", {{"run", fast}}), "") << "and may still be offered rightly";
}

// Slots are shared by all the tasks: each may have the dearest attempt.
TEST_F(OfferedTasks, descriptors_are_wanted_by_every_kind_that_is_used_and_once_for_each_slot) {
  table_.set_concurrency(3);
  EXPECT_EQ(table_.descriptors(), 0U);
  EXPECT_EQ(add("a", {{"run", std::string("fast")}}), "");
  EXPECT_EQ(table_.descriptors(), 100U + 3 * 2);
  EXPECT_EQ(add("b", {{"run", std::string("fast")}}), "");
  EXPECT_EQ(table_.descriptors(), 100U + 3 * 2) << "the builder has counted both";
  EXPECT_EQ(add("c", {}), "");
  EXPECT_EQ(table_.descriptors(), 100U + 10 * 3 + 3 * 7);
}

TEST_F(OfferedTasks, what_is_doubtful_is_told_of_those_that_are_offered) {
  EXPECT_EQ(add("a", {{"run", std::string("fast")}, {"speed", std::int64_t{0}}}), "");
  EXPECT_NE(add("b", {{"speed", std::int64_t{0}}, {"more", true}}), "") << "refused";
  EXPECT_EQ(add("c", {}), "");
  ASSERT_EQ(table_.doubts().size(), 1U);
  EXPECT_EQ(table_.doubts()[0].where, "task.a.speed");
  EXPECT_EQ(table_.doubts()[0].detail, "it will never end");
}

TEST_F(OfferedTasks, a_name_is_given_once_and_there_are_at_most_256) {
  for (std::size_t i = 0; i < kTasksPerNodeMax; ++i)
    ASSERT_EQ(add("t" + std::to_string(i), {}), "");
  EXPECT_EQ(add("t7", {{"run", std::string("fast")}}), "task.t7.run: this task is defined twice");
  EXPECT_EQ(
      add("more", {}),
      "task.more: is one too many: a node offers at most 256 tasks; let another node have some");
  EXPECT_EQ(table_.tasks().size(), kTasksPerNodeMax);
}

}  // namespace
}  // namespace sluice::worker_task_table_test
