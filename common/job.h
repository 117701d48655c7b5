// A job: what a producer asked for (JobSpec) and what has become of it (Job). Plain values; the
// moves between states are decided in broker/core, the words are those of PROTOCOL.md and KEYS.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/retry.h"
#include "common/time.h"

namespace sluice {

enum class JobState : std::uint8_t {
  pending,
  queued,
  running,
  completed,
  failed,
  cancelled
};
enum class Priority : std::uint8_t {
  low,
  normal,
  high,
  critical
};
// What a worker reports of an attempt.
enum class Outcome : std::uint8_t {
  completed,
  failed,
  cancelled,
  handed_back
};
// How an attempt ended, as kept with the job.
enum class AttemptEnd : std::uint8_t {
  completed,
  failed,
  cancelled,
  handed_back,
  lost,
  timed_out
};

inline constexpr std::size_t kJobStates = 6;
inline constexpr std::size_t kPriorities = 4;

[[nodiscard]] std::string_view to_string(JobState state);
[[nodiscard]] std::string_view to_string(Priority priority);
[[nodiscard]] std::string_view to_string(Outcome outcome);
[[nodiscard]] std::string_view to_string(AttemptEnd end);
[[nodiscard]] std::optional<JobState> parse_job_state(std::string_view word);
[[nodiscard]] std::optional<Priority> parse_priority(std::string_view word);
[[nodiscard]] std::optional<Outcome> parse_outcome(std::string_view word);
[[nodiscard]] std::optional<AttemptEnd> parse_attempt_end(std::string_view word);

// completed, failed and cancelled; only a person's retry leads out of the last two.
[[nodiscard]] constexpr bool is_ended(JobState state) {
  return state >= JobState::completed;
}

// The table of design.md, "States". Staying in a state is not a move.
[[nodiscard]] bool is_legal_move(JobState from, JobState to);

struct Header {
  std::string name;
  std::string value;
  friend bool operator==(const Header&, const Header&) = default;
};

// What a producer submits. Strings are within the bounds of limits.h. Every member has an
// initializer, so that naming only some ({.task = "echo"}) is no warning.
struct JobSpec {
  JobId id{};
  std::string task{};
  std::string queue = "default";
  std::string payload{};  // opaque bytes
  std::string content_type = "application/msgpack";
  Priority priority = Priority::normal;
  std::int64_t delay_ms = 0;   // from the moment it is accepted; at most one of delay_ms, run_at_ms
  std::int64_t run_at_ms = 0;  // wall clock; 0 = now
  std::int64_t expires_at_ms = 0;  // wall clock; not started by then = failed `expired`; 0 = never
  std::int64_t timeout_ms =
      kTimeoutDefaultMs;  // of one attempt; 0 = none, which must be said aloud
  RetryPolicy retry{};
  std::int64_t keep_result_ms = 0;  // exempt from the count of kept jobs for so long after its end
  bool keep_payload = false;        // keep the payload of a completed job
  std::vector<std::string> tags{};
  std::vector<Header> headers{};
  std::uint64_t content_hash = 0;  // of everything above but the id: content_hash_of()
};

// The hash by which a resend (`duplicate`) is told from another job under the same id (`conflict`).
[[nodiscard]] std::uint64_t content_hash_of(const JobSpec& spec);

// One past attempt, kept for people.
struct AttemptRecord {
  std::uint32_t attempt = 0;
  std::string node;
  std::int64_t started_ms = 0;
  std::int64_t ended_ms = 0;
  AttemptEnd end = AttemptEnd::completed;
  std::string error_code;
  std::string error;  // shortened to 256 bytes
  std::int64_t cpu_ms = 0;
  std::int64_t rss_bytes_max = 0;
  friend bool operator==(const AttemptRecord&, const AttemptRecord&) = default;
};

// A job with everything that is durable about it. This is what a log entry carries (without the
// payload, but for the entry of its submit) and what the view shows.
struct Job {
  JobSpec spec;
  JobState state = JobState::pending;
  std::uint32_t life = 1;         // grows with an operator's retry
  std::uint32_t retry_count = 0;  // retries decided in this life
  std::uint32_t lost_count = 0;   // attempts lost with their node in this life
  std::uint32_t attempt = 0;      // number of the newest attempt; never reused
  std::uint64_t epoch = 0;        // with `attempt` the fence of the newest dispatch
  std::uint64_t sequence = 0;     // place in its line, given when it became ready
  std::uint64_t revision = 0;     // grows by one per move
  std::uint64_t batch = 0;        // number of the batch that last changed it
  std::string node;               // node id of the newest attempt
  std::int64_t created_ms = 0;
  std::int64_t due_ms = 0;  // pending: when it becomes queued
  std::int64_t started_ms = 0;
  std::int64_t finished_ms = 0;
  std::int64_t cancel_requested_ms = 0;
  std::string cancel_reason;
  std::string error_code;  // of the last failure
  std::string error;
  std::uint32_t progress_percent = 0;
  std::string progress_message;
  std::string checkpoint;               // the handler's, comes with the next attempt
  std::string result;                   // bytes, of a completed job
  std::vector<AttemptRecord> attempts;  // the last kAttemptsKept that have ended
  bool is_payload_lost = false;         // not durable: Redis has the job, and lost its payload

  [[nodiscard]] Fence fence() const { return {epoch, attempt}; }

  [[nodiscard]] const JobId& id() const { return spec.id; }
};

}  // namespace sluice
