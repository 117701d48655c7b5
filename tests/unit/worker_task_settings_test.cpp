#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/task_settings.h"

namespace sluice::worker_task_settings_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Value = TaskSettings::Value;
using Values = std::map<std::string, Value>;

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

TEST(TaskSettings, what_is_set_is_shown_but_for_what_may_be_secret) {
  TaskSettings settings("t",
                        {{"run", std::string("exec")},
                         {"program", TaskSettings::Texts{"grep", "a b"}},
                         {"env", TaskSettings::TextMap{{"KEY", "hidden"}, {"LANG", "C"}}},
                         {"limits.processes", std::int64_t{3}},
                         {"reuse", false},
                         {"share", 0.5}});
  EXPECT_THAT(settings.lines(),
              ElementsAre("task.t.env={KEY, LANG}",
                          "task.t.limits.processes=3",
                          "task.t.program=[\"grep\", \"a b\"]",
                          "task.t.reuse=false",
                          "task.t.run=exec",
                          "task.t.share=0.5"));
}

TEST(TaskSettings, a_doubt_names_its_key) {
  TaskSettings settings("t", {});
  EXPECT_THAT(settings.doubts(), IsEmpty());
  settings.doubt("cwd", "is gone");
  ASSERT_EQ(settings.doubts().size(), 1U);
  EXPECT_EQ(settings.doubts()[0].where, "task.t.cwd");
  EXPECT_EQ(settings.doubts()[0].detail, "is gone");
}

}  // namespace
}  // namespace sluice::worker_task_settings_test
