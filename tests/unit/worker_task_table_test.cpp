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

// ---------------------------------------------------------------- one task's settings

// `take` of a task whose only key is `k`: the value, or the refusal.
template <typename Take>
std::string take_from(Values values, Take take) {
  TaskSettings settings("t", std::move(values));
  const auto taken = take(settings);
  if (!taken) return taken.error().where + ": " + taken.error().detail;
  return *taken ? testing::PrintToString(**taken) : "absent";
}

std::string integer(Value value) {
  return take_from({{"k", std::move(value)}},
                   [](TaskSettings& settings) { return settings.take_integer("k", -2, 5); });
}

std::string duration(Value value) {
  return take_from({{"k", std::move(value)}},
                   [](TaskSettings& settings) { return settings.take_duration_ms("k"); });
}

std::string bytes(Value value) {
  return take_from({{"k", std::move(value)}},
                   [](TaskSettings& settings) { return settings.take_bytes("k"); });
}

TEST(TaskSettings, an_absent_key_is_no_error) {
  TaskSettings settings("t", {{"other", true}});
  EXPECT_EQ(settings.take_bool("k").value(), std::nullopt);
  EXPECT_EQ(settings.take_integer("k", 1, 1).value(), std::nullopt);
  EXPECT_EQ(settings.take_text("k").value(), std::nullopt);
  EXPECT_EQ(settings.take_texts("k").value(), std::nullopt);
  EXPECT_EQ(settings.take_map("k").value(), std::nullopt);
  EXPECT_EQ(settings.take_duration_ms("k").value(), std::nullopt);
  EXPECT_EQ(settings.take_bytes("k").value(), std::nullopt);
}

TEST(TaskSettings, a_key_can_be_taken_once_and_what_is_left_is_told) {
  TaskSettings settings("t", {{"a", true}, {"b", true}});
  EXPECT_EQ(settings.take_bool("a").value(), true);
  EXPECT_EQ(settings.take_bool("a").value(), std::nullopt);
  ASSERT_TRUE(settings.untaken());
  EXPECT_EQ(settings.untaken()->code, ErrorCode::bad_field);
  EXPECT_EQ(settings.untaken()->where, "task.t.b");
  EXPECT_EQ(settings.take_bool("b").value(), true);
  EXPECT_FALSE(settings.untaken());
}

TEST(TaskSettings, another_type_is_refused_with_the_key_and_what_it_must_be) {
  const std::int64_t number = 1;
  const auto refusal = [&](auto take) {
    return take_from({{"k", number}}, take);
  };
  EXPECT_EQ(refusal([](TaskSettings& settings) { return settings.take_bool("k"); }),
            "task.t.k: must be true or false");
  EXPECT_EQ(refusal([](TaskSettings& settings) { return settings.take_text("k"); }),
            "task.t.k: must be a text");
  EXPECT_EQ(refusal([](TaskSettings& settings) { return settings.take_texts("k"); }),
            "task.t.k: must be a list of texts");
  EXPECT_EQ(refusal([](TaskSettings& settings) { return settings.take_map("k"); }),
            "task.t.k: must be a table of texts");
}

TEST(TaskSettings, an_integer_lies_within_its_bounds_and_is_nothing_else) {
  EXPECT_EQ(integer(std::int64_t{-2}), "-2");
  EXPECT_EQ(integer(std::int64_t{5}), "5");
  for (const Value& value : {Value(std::int64_t{-3}),
                             Value(std::int64_t{6}),
                             Value(1.0),
                             Value(std::string("1")),
                             Value(true)})
    EXPECT_EQ(integer(value), "task.t.k: must be an integer from -2 to 5");
}

TEST(TaskSettings, a_duration_has_a_unit_or_is_milliseconds_up_to_ten_years) {
  for (const auto& [text, ms] : {std::pair{"1500ms", "1500"},
                                 {"30s", "30000"},
                                 {"5m", "300000"},
                                 {"1h", "3600000"},
                                 {"7d", "604800000"},
                                 {"0s", "0"},
                                 {"3650d", "315360000000"}})
    EXPECT_EQ(duration(std::string(text)), ms);
  EXPECT_EQ(duration(kTenYearsMs), "315360000000");
  for (const Value& value : {Value(std::string("3651d")),
                             Value(kTenYearsMs + 1),
                             Value(std::string("-1s")),
                             Value(std::int64_t{-1}),
                             Value(std::string("1y")),
                             Value(1.5)})
    EXPECT_TRUE(duration(value).starts_with("task.t.k: must be a duration such as \"30s\""))
        << duration(value);
}

TEST(TaskSettings, a_size_has_a_unit_or_is_bytes) {
  EXPECT_EQ(bytes(std::string("256MiB")), "268435456");
  EXPECT_EQ(bytes(std::int64_t{0}), "0");
  for (const Value& value : {Value(std::string("-1KiB")),
                             Value(std::int64_t{-1}),
                             Value(std::string("much")),
                             Value(2.0)})
    EXPECT_EQ(bytes(value), "task.t.k: must be a size such as \"256MiB\", or bytes");
}

// ---------------------------------------------------------------- the tasks of a node

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
    calls_.names.push_back(kind_ + " add " + settings.task());
    return {};
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
