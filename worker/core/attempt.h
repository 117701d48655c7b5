// What the worker's core and the runtimes say to each other about attempts. Plain values, so that
// the core stays free of adapters; the interface that runs them is worker/runtime/runtime.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/protocol/messages.h"
#include "common/time.h"

namespace sluice {

enum class StopReason : std::uint8_t {
  cancel,     // asked for by a producer: report `cancelled`
  timed_out,  // its time is over: report failed, code `timeout`
  dropped,    // no longer ours: stop it; the report is thrown away
  hand_back,  // the node leaves: report `handed_back`
};
[[nodiscard]] std::string_view to_string(StopReason reason);

// What a `timeout` says, whichever time it was: the job's, the task's, or the attempt's.
inline constexpr const char* kTimeWasOver = "stopped: its time was over";

// Which attempt. One job may be held twice: an old attempt that is still being stopped, and a
// newer.
struct AttemptKey {
  JobId id;
  Fence fence;
  friend bool operator==(const AttemptKey&, const AttemptKey&) = default;
  friend auto operator<=>(const AttemptKey&, const AttemptKey&) = default;
};

// The attempt has ended and nothing of it is left: no process, no call. Only now its slot is free.
struct AttemptDone {
  AttemptResult result;
};

struct AttemptProgress {
  JobId id;
  Fence fence;
  std::uint32_t percent = 0;
  std::string message;
  std::optional<std::string> checkpoint;
  // Counts the checkpoints of the attempt, from 1, when its handler waits until this one is
  // recorded; 0 when nobody does.
  std::uint64_t awaited_n = 0;
};

// What it wrote to its job's log: any bytes, not yet within any bound.
struct AttemptLog {
  JobId id;
  Fence fence;
  std::string bytes;
};

// What became of the checkpoints that handlers wait for.
struct CheckpointAnswer {
  AttemptKey key;
  std::uint64_t awaited_n = 0;  // of this one and of those before it
  bool is_recorded = true;      // false: the attempt is no longer the job's current one
};

// One attempt as a runtime gets it. `deadline_mono_ms` is when the core will call stop(timed_out);
// kNever without a time-out.
struct Assignment {
  RunJob job;
  std::int64_t deadline_mono_ms = kNever;
};

struct AttemptStop {
  AttemptKey key;
  StopReason reason = StopReason::cancel;
};

}  // namespace sluice

template <>
struct std::hash<sluice::AttemptKey> {
  std::size_t operator()(const sluice::AttemptKey& key) const noexcept {
    return std::hash<sluice::JobId>{}(key.id) ^ (key.fence.epoch * 0x9e3779b97f4a7c15ULL) ^
           (std::size_t{key.fence.attempt} << 1);
  }
};
