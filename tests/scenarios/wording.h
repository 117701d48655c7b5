// How messages, jobs and events stand in a story: one line for each thing said, words as in
// PROTOCOL.md, what has its default left out, times in story time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "broker/engine.h"
#include "common/job.h"
#include "common/protocol/codec.h"

namespace sluice::scenarios {

// The wall clock and the monotonic clock at the start of a story; times are told from there. Also
// the first epoch, in seconds.
inline constexpr std::int64_t kStartMs = 1'000'000;

// The text as it is, in quotes when it has a blank or is empty; bytes that can not be read as \xNN.
[[nodiscard]] std::string quoted(std::string_view text);
// 45s, 1.250s
[[nodiscard]] std::string seconds(std::int64_t ms);

// The state of a job and, of what makes it up, that which differs from `before` (from a new job
// when there is none).
[[nodiscard]] std::string describe(const Job& job, const Job* before);

// `epoch` is that of the broker that speaks: fences of its own are told without it.
[[nodiscard]] std::vector<std::string> describe(const ReplyBody& reply);
[[nodiscard]] std::vector<std::string> describe(const BrokerBody& message, std::uint64_t epoch);
[[nodiscard]] std::string describe(const EventBody& event);
// Empty for what stands among the events already.
[[nodiscard]] std::string describe(const EngineFact& fact);

[[nodiscard]] std::string describe(const JobId& id, Fence fence, std::uint64_t epoch);

// The keys of `stats` that a story shows; the others depend on the machine or would change with
// everything.
[[nodiscard]] std::vector<std::string> describe(const StatsInfo& stats,
                                                const std::vector<std::string>& keys);

}  // namespace sluice::scenarios
