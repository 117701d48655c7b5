#include <map>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/runtime/pool_settings.h"

namespace sluice::worker_pool_settings_test {
namespace {

using Values = std::map<std::string, TaskSettings::Value>;

Result<PoolSettings> taken(Values values) {
  TaskSettings settings("t", std::move(values));
  return take_pool_settings(settings, "isolates");
}

// Of `isolates_min` on a node with four slots.
std::string doubt(std::int64_t least) {
  TaskSettings settings("t", {{"isolates_min", least}});
  settings.set_host({.concurrency = 4});
  EXPECT_TRUE(take_pool_settings(settings, "isolates"));
  if (settings.doubts().empty()) return {};
  return settings.doubts()[0].where + ": " + settings.doubts()[0].detail;
}

TEST(PoolSettings, one_is_there_and_as_many_as_there_are_slots) {
  const auto pool = taken({});
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->processes_min, 1U);
  EXPECT_EQ(pool->most(7), 7U);
}

TEST(PoolSettings, there_are_never_more_than_the_maximum_or_than_are_kept) {
  EXPECT_EQ(taken({{"isolates_max", std::int64_t{3}}})->most(7), 3U);
  EXPECT_EQ(taken({{"isolates_min", std::int64_t{9}}})->most(7), 9U);
}

TEST(PoolSettings, a_minimum_that_no_jobs_could_use_is_doubtful) {
  EXPECT_EQ(doubt(4), "");
  EXPECT_EQ(doubt(5), "task.t.isolates_min: 5 are kept for at most 4 jobs at once (concurrency)");
}

TEST(PoolSettings, a_minimum_above_the_maximum_is_refused) {
  const auto pool = taken({{"isolates_min", std::int64_t{3}}, {"isolates_max", std::int64_t{2}}});
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().where, "task.t.isolates_min");
}

}  // namespace
}  // namespace sluice::worker_pool_settings_test
