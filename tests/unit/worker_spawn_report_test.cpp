#include <cstdint>

#include <gtest/gtest.h>

#include "worker/runtime/spawn_report.h"

namespace sluice::worker_spawn_report_test {
namespace {

constexpr std::int64_t kMib = 1 << 20;

// What is told of a program, when the kernel says `said` and its keeper had so much.
std::int64_t told_peak(std::int64_t said, std::int64_t of_keeper) {
  SpawnReport report;
  report.take_end(0, {.cpu_us = 0, .rss_bytes_max = said});
  report.take_keeper_peak(of_keeper);
  return report.rss_bytes_max;
}

TEST(SpawnReport, a_program_has_its_own_peak) {
  EXPECT_EQ(told_peak(40 * kMib, 4 * kMib), 40 * kMib);
  EXPECT_EQ(told_peak(40 * kMib, 30 * kMib), 40 * kMib);
}

TEST(SpawnReport, a_small_program_has_at_most_what_a_small_keeper_has) {
  EXPECT_EQ(told_peak(4 * kMib, 4 * kMib), 4 * kMib);
  EXPECT_EQ(told_peak(5 * kMib, 4 * kMib), 5 * kMib);
}

TEST(SpawnReport, of_a_great_keeper_nothing_is_told_as_the_program_s) {
  EXPECT_EQ(told_peak(64 * kMib, 64 * kMib), 0);
  EXPECT_EQ(told_peak(65 * kMib, 64 * kMib), 0);
}

TEST(SpawnReport, what_is_left_behind_counts_where_it_had_more) {
  SpawnReport report;
  report.take_end(0, {.cpu_us = 2000, .rss_bytes_max = 5 * kMib});
  report.take_left({.cpu_us = 3000, .rss_bytes_max = 7 * kMib});
  EXPECT_EQ(report.rss_bytes_max, 7 * kMib);
  EXPECT_EQ(report.cpu_ms, 2);
  EXPECT_EQ(report.left_cpu_ms, 3);
}

TEST(SpawnReport, a_cgroup_knows_better) {
  SpawnReport report;
  report.take_end(0, {.cpu_us = 0, .rss_bytes_max = 5 * kMib});
  report.take_group({.memory_bytes_max = 3 * kMib});
  EXPECT_EQ(report.rss_bytes_max, 3 * kMib);
}

}  // namespace
}  // namespace sluice::worker_spawn_report_test
