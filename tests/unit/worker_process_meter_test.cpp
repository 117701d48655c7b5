// Of this process, and of children that burn CPU time by the clock that counts it.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <ctime>

#include <gtest/gtest.h>

#include "worker/runtime/process_meter.h"

namespace sluice::worker_process_meter_test {
namespace {

constexpr std::int64_t kMuch = 64 << 20;

void burn(std::int64_t ms) {
  const std::clock_t end = std::clock() + ms * CLOCKS_PER_SEC / 1000;
  while (std::clock() < end) {
  }
}

void have_and_give_back(std::size_t bytes) {
  void* memory = ::mmap(nullptr,
                        bytes,
                        PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                        -1,
                        0);
  ASSERT_NE(memory, MAP_FAILED);
  ::munmap(memory, bytes);
}

TEST(ProcessMeter, each_lap_has_the_cpu_time_since_the_one_before) {
  ProcessMeter meter;
  meter.attach(::getpid());
  (void)meter.lap();
  burn(60);
  EXPECT_GE(meter.lap().cpu_ms, 60);
  EXPECT_LT(meter.lap().cpu_ms, 60);
}

// In whole ticks of the system.
TEST(ProcessMeter, children_count_when_they_were_waited_for) {
  ProcessMeter meter;
  meter.attach(::getpid());
  (void)meter.lap();
  const pid_t child = ::fork();
  if (child == 0) {
    burn(200);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_GE(meter.lap().cpu_ms, 150);
}

TEST(ProcessMeter, the_peak_of_a_job_is_none_of_the_next_one) {
  ProcessMeter meter;
  meter.attach(::getpid());
  meter.begin();
  have_and_give_back(kMuch);
  const std::int64_t much = meter.lap().rss_bytes_max;
  EXPECT_GE(much, kMuch);
  meter.begin();
  const std::int64_t little = meter.lap().rss_bytes_max;
  EXPECT_GT(little, 0);
  EXPECT_LT(little, much - kMuch / 2);
}

TEST(ProcessMeter, nothing_is_known_of_one_that_was_not_named_or_is_gone) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ProcessMeter gone;
  gone.attach(child);
  ::waitpid(child, nullptr, 0);
  ProcessMeter unnamed;
  for (ProcessMeter* meter : {&gone, &unnamed}) {
    meter->begin();
    const Usage usage = meter->lap();
    EXPECT_EQ(usage.cpu_ms, 0);
    EXPECT_EQ(usage.rss_bytes_max, 0);
  }
}

TEST(PeakMemory, begins_anew) {
  const PeakMemory peak;
  have_and_give_back(kMuch);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const std::int64_t much = spent_of(usage).rss_bytes_max;
  EXPECT_GE(much, kMuch);
  peak.begin();
  ::getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(spent_of(usage).rss_bytes_max, much - kMuch / 2);
}

TEST(Spent, adds_the_times_and_keeps_the_greater_peak) {
  Spent sum{1'000, 70};
  sum.add({500, 90});
  sum.add({1, 80});
  EXPECT_EQ(sum.cpu_us, 1'501);
  EXPECT_EQ(sum.rss_bytes_max, 90);
}

}  // namespace
}  // namespace sluice::worker_process_meter_test
