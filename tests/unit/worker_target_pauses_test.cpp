#include <gtest/gtest.h>

#include "worker/tasks/target_pauses.h"

namespace sluice::worker_target_pauses_test {
namespace {

TEST(TargetPauses, are_of_one_origin_until_they_are_over) {
  TargetPauses pauses;
  EXPECT_EQ(pauses.next_end_ms(), kNever);
  pauses.note("http://a", 5'000, 1'000);
  pauses.note("http://b", 3'000, 1'000);
  EXPECT_EQ(pauses.until_ms("http://a"), 6'000);
  EXPECT_EQ(pauses.until_ms("http://c"), std::nullopt);
  EXPECT_EQ(pauses.next_end_ms(), 4'000);
  pauses.end(3'999);
  EXPECT_EQ(pauses.until_ms("http://b"), 4'000);
  pauses.end(4'000);
  EXPECT_EQ(pauses.until_ms("http://b"), std::nullopt);
  EXPECT_EQ(pauses.next_end_ms(), 6'000);
}

TEST(TargetPauses, the_longest_that_was_asked_for_holds) {
  TargetPauses pauses;
  EXPECT_TRUE(pauses.note("http://a", 5'000, 1'000));
  EXPECT_FALSE(pauses.note("http://a", 1'000, 2'000)) << "not longer than it was";
  EXPECT_EQ(pauses.until_ms("http://a"), 6'000);
  EXPECT_TRUE(pauses.note("http://a", 9'000, 2'000));
  EXPECT_EQ(pauses.until_ms("http://a"), 11'000);
}

TEST(TargetPauses, last_an_hour_at_most_and_nothing_is_none) {
  TargetPauses pauses;
  EXPECT_FALSE(pauses.note("http://a", 0, 1'000));
  EXPECT_EQ(pauses.until_ms("http://a"), std::nullopt);
  pauses.note("http://a", TargetPauses::kPauseMaxMs + 1, 1'000);
  EXPECT_EQ(pauses.until_ms("http://a"), 1'000 + TargetPauses::kPauseMaxMs);
}

TEST(TargetPauses, are_of_so_many_origins_and_those_may_ask_again) {
  TargetPauses pauses;
  for (std::size_t i = 0; i < TargetPauses::kOriginsMax; ++i)
    pauses.note(std::to_string(i), 1'000, 0);
  EXPECT_FALSE(pauses.note("one more", 1'000, 0));
  EXPECT_EQ(pauses.until_ms("one more"), std::nullopt);
  pauses.note("7", 2'000, 0);
  EXPECT_EQ(pauses.until_ms("7"), 2'000);
}

}  // namespace
}  // namespace sluice::worker_target_pauses_test
