#include <map>
#include <random>

#include <gtest/gtest.h>

#include "broker/core/deadlines.h"

namespace sluice::broker_deadlines_test {
namespace {

TEST(Deadlines, the_earliest_comes_first_and_equal_ones_by_slot) {
  Deadlines deadlines;
  deadlines.set(3, 50);
  deadlines.set(1, 20);
  deadlines.set(2, 20);
  EXPECT_EQ(deadlines.next_ms(), 20);
  EXPECT_EQ(deadlines.next_slot(), 1U);
  deadlines.remove(1);
  EXPECT_EQ(deadlines.next_slot(), 2U);
  deadlines.remove(2);
  EXPECT_EQ(deadlines.next_slot(), 3U);
}

TEST(Deadlines, setting_again_moves_and_never_removes_the_slot_of_another) {
  Deadlines deadlines;
  deadlines.set(7, 100);
  deadlines.set(7, 10);
  deadlines.set(8, 50);
  EXPECT_EQ(deadlines.next_slot(), 7U);
  deadlines.set(7, kNever);
  EXPECT_EQ(deadlines.next_slot(), 8U);
  deadlines.remove(7);
  deadlines.remove(100'000);
  EXPECT_EQ(deadlines.next_ms(), 50);
  deadlines.remove(8);
  EXPECT_TRUE(deadlines.empty());
  EXPECT_EQ(deadlines.next_ms(), kNever);
}

TEST(Deadlines, agrees_with_a_sorted_map_over_random_changes) {
  std::mt19937 random(7);
  Deadlines deadlines;
  std::map<JobSlot, std::int64_t> model;
  for (int step = 0; step < 20'000; ++step) {
    const auto slot = static_cast<JobSlot>(random() % 200);
    if (random() % 3 == 0) {
      deadlines.remove(slot);
      model.erase(slot);
    } else {
      const auto at_ms = static_cast<std::int64_t>(random() % 1000);
      deadlines.set(slot, at_ms);
      model[slot] = at_ms;
    }
    std::int64_t earliest = kNever;
    for (const auto& [other, at_ms] : model)
      earliest = std::min(earliest, at_ms);
    ASSERT_EQ(deadlines.next_ms(), earliest) << "step " << step;
  }
}

}  // namespace
}  // namespace sluice::broker_deadlines_test
