#include "worker/runtime/pool_settings.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "common/limits.h"

namespace sluice {

std::uint32_t PoolSettings::most(std::uint32_t concurrency) const {
  return std::max(processes_min, processes_max != 0 ? processes_max : concurrency);
}

Result<PoolSettings> take_pool_settings(TaskSettings& settings, const std::string& name) {
  PoolSettings pool;
  const auto least = settings.take_integer(name + "_min", 0, kConcurrencyMax);
  if (!least) return tl::unexpected(least.error());
  const auto most = settings.take_integer(name + "_max", 0, kConcurrencyMax);
  if (!most) return tl::unexpected(most.error());
  pool.processes_max = static_cast<std::uint32_t>(most->value_or(0));
  pool.processes_min = static_cast<std::uint32_t>(least->value_or(1));
  if (pool.processes_max != 0 && pool.processes_min > pool.processes_max)
    return tl::unexpected(settings.error(name + "_min", "is greater than " + name + "_max"));
  const std::uint32_t slots = settings.host().concurrency;
  if (slots != 0 && pool.processes_min > slots)
    settings.doubt(name + "_min",
                   std::to_string(pool.processes_min) + " are kept for at most " +
                       std::to_string(slots) + " jobs at once (concurrency)");
  const auto jobs = settings.take_integer("recycle_after", 0, UINT32_MAX);
  if (!jobs) return tl::unexpected(jobs.error());
  pool.jobs_max = static_cast<std::uint32_t>(jobs->value_or(0));
  const auto idle = settings.take_duration_ms("idle");
  if (!idle) return tl::unexpected(idle.error());
  pool.idle_ms = idle->value_or(pool.idle_ms);
  const auto timeout = settings.take_duration_ms("timeout");
  if (!timeout) return tl::unexpected(timeout.error());
  pool.timeout_ms = timeout->value_or(0);
  const auto grace = settings.take_duration_ms("grace");
  if (!grace) return tl::unexpected(grace.error());
  pool.grace_ms = grace->value_or(pool.grace_ms);
  return pool;
}

}  // namespace sluice
