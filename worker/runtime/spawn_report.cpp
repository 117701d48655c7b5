#include "worker/runtime/spawn_report.h"

#include <algorithm>

namespace sluice {

void SpawnReport::take_end(int status, const Spent& spent) {
  wait_status = status;
  cpu_ms = spent.cpu_us / 1000;
  rss_bytes_max = spent.rss_bytes_max;
}

void SpawnReport::take_keeper_peak(std::int64_t bytes) {
  constexpr std::int64_t kErrorBytes = 2 << 20;  // pages are counted in batches, on each CPU
  constexpr std::int64_t kMuchBytes = 8 << 20;
  if (rss_bytes_max < bytes + kErrorBytes && bytes > kMuchBytes) rss_bytes_max = 0;
}

void SpawnReport::take_left(const Spent& left) {
  left_cpu_ms = left.cpu_us / 1000;
  rss_bytes_max = std::max(rss_bytes_max, left.rss_bytes_max);
}

void SpawnReport::take_group(const CgroupUsage& usage) {
  is_out_of_memory = usage.has_run_out ? 1 : 0;
  if (usage.memory_bytes_max > 0) rss_bytes_max = usage.memory_bytes_max;
}

}  // namespace sluice
