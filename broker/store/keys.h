// Every key of the state in Redis, in one place. What they hold: KEYS.md.
#pragma once

#include <string>
#include <string_view>

#include "common/job.h"

namespace sluice::keys {

inline constexpr std::uint64_t kLayout = 1;
inline constexpr std::string_view kPrefix = "sluice:{p0}:";
inline constexpr std::string_view kMeta = "sluice:{p0}:meta";
inline constexpr std::string_view kLog = "sluice:{p0}:log";
inline constexpr std::string_view kStats = "sluice:{p0}:stats";
inline constexpr std::string_view kNodes = "sluice:{p0}:nodes";
inline constexpr std::string_view kQueues = "sluice:{p0}:queues";
inline constexpr std::string_view kEvents = "sluice:{p0}:events";

inline std::string job(std::string_view id) {
  return std::string(kPrefix).append("job:").append(id);
}

inline std::string job_log(std::string_view id) {
  return std::string(kPrefix).append("log:").append(id);
}

inline std::string ended(std::uint64_t chunk) {
  return std::string(kPrefix).append("ended:").append(std::to_string(chunk));
}

// The part after the prefix of the one index that a job of this state stands in.
inline std::string index_name(JobState state, std::string_view queue) {
  std::string name(to_string(state));
  if (state != JobState::pending && state != JobState::running) name.append(":").append(queue);
  return name;
}

inline std::string index(JobState state, std::string_view queue) {
  return std::string(kPrefix).append(index_name(state, queue));
}

}  // namespace sluice::keys
