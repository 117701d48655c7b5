// What a handler sees of its attempt, and what it answers. Public: a handler needs this header
// only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/ids.h"

namespace sluice {

// One attempt at a job. Lives while its handler runs; the methods may be called from any thread.
// What the handler forks has no say: its progress and logs go nowhere, and where it comes back from
// the handler it ends.
//
// When the job is cancelled, its time is over or the node leaves, stop_requested() becomes true and
// the handler should return soon: its slot stays taken until it does, and what it then returns
// counts only if the node was leaving.
class Task {
 public:
  struct State;  // worker/runtime/handler_call.h

  explicit Task(std::shared_ptr<State> state);

  [[nodiscard]] const std::string& payload() const;
  [[nodiscard]] const std::string& content_type() const;
  // The checkpoint of an earlier attempt of this job, or empty.
  [[nodiscard]] const std::string& last_checkpoint() const;
  [[nodiscard]] std::string_view id() const;
  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] const std::string& queue() const;
  // Numbered from 1 within the job, never reused. Several attempts may not be retries: see
  // retry_count().
  [[nodiscard]] std::uint32_t attempt() const;
  [[nodiscard]] std::uint32_t retry_count() const;
  [[nodiscard]] std::uint32_t max_retries() const;
  // Fences of one job only grow, so a system that this handler writes to can refuse an attempt that
  // was superseded; str() is what programs have as SLUICE_FENCE.
  [[nodiscard]] Fence fence() const;
  // The value of a header of the job, or empty.
  [[nodiscard]] std::string_view header(std::string_view header_name) const;
  // When the attempt times out; nothing without a time-out.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> deadline() const;
  // How long until then.
  [[nodiscard]] std::optional<std::int64_t> remaining_ms() const;

  [[nodiscard]] bool stop_requested() const;
  [[nodiscard]] std::stop_token stop_token() const;

  // `percent` 0..100; `text` at most 256 bytes, shortened. Cheap: only a few a second are sent.
  void progress(std::uint32_t percent, std::string_view text = {});
  // Bytes for the next attempt of this job, at most 4096; throws std::length_error beyond that.
  // Returns when they are recorded: whatever happens from then on, the next attempt has these or
  // newer ones. While there is no broker that takes a while. False if they are not, for the attempt
  // is no longer the job's, or they were not within a second of a stop. From within what was
  // registered with stop_token() they are told, and nobody waits: false.
  bool checkpoint(std::string_view bytes);

  // A line for the job's log, which `sluice logs` shows; more lines are fine. Cheap, and never
  // waits: of more than can be sent in time, 1 MiB at most, the oldest goes, and a line says so.
  void log(std::string_view text);

 private:
  std::shared_ptr<State> state_;
};

// What became of the attempt. A string is a completed attempt with that result.
struct TaskOutcome {
  bool is_completed = true;
  std::string result;  // bytes; at most 1 MiB, more is a failed attempt `result_too_large`
  std::string error_code;
  std::string error;
  bool retryable = true;
  std::optional<std::int64_t> retry_after_ms;

  TaskOutcome() = default;

  TaskOutcome(std::string bytes) : result(std::move(bytes)) {}  // NOLINT: conversion is the point

  TaskOutcome(const char* text) : result(text) {}  // NOLINT

  [[nodiscard]] static TaskOutcome ok(std::string result_bytes = {}) {
    return TaskOutcome(std::move(result_bytes));
  }

  // `code` is for programs ([A-Za-z0-9_.-], at most 64), `message` for people. Tried again as the
  // job's retry policy says, unless `can_retry` is false.
  [[nodiscard]] static TaskOutcome failed(std::string code,
                                          std::string message,
                                          bool can_retry = true) {
    TaskOutcome outcome;
    outcome.is_completed = false;
    outcome.error_code = std::move(code);
    outcome.error = std::move(message);
    outcome.retryable = can_retry;
    return outcome;
  }

  // Failed, and not to be tried again before `delay_ms` have passed.
  [[nodiscard]] static TaskOutcome retry_after(std::int64_t delay_ms,
                                               std::string code,
                                               std::string message) {
    TaskOutcome outcome = failed(std::move(code), std::move(message));
    outcome.retry_after_ms = delay_ms;
    return outcome;
  }
};

// Thrown by a handler: the same as returning TaskOutcome::failed. Any other std::exception is a
// failed attempt with the code `exception` and its what().
class TaskFailed : public std::runtime_error {
 public:
  TaskFailed(std::string code, const std::string& message, bool can_retry = true)
      : std::runtime_error(message), code_(std::move(code)), can_retry_(can_retry) {}

  [[nodiscard]] const std::string& code() const { return code_; }

  [[nodiscard]] bool can_retry() const { return can_retry_; }

 private:
  std::string code_;
  bool can_retry_;
};

// Called on a pool thread of the node, by several threads at once; or in a child process, if its
// table says `run = "isolate"`.
using TaskHandler = std::function<TaskOutcome(Task&)>;

// Code around a handler: calls `next`, which does not throw, or does not, and returns the outcome.
using Middleware = std::function<TaskOutcome(Task&, const TaskHandler& next)>;

// A handler from anything callable with a Task&; one that returns nothing completes with no result.
template <typename Callable>
[[nodiscard]] TaskHandler make_handler(Callable callable) {
  if constexpr (std::is_void_v<std::invoke_result_t<Callable&, Task&>>) {
    return [callable = std::move(callable)](Task& task) mutable {
      callable(task);
      return TaskOutcome::ok();
    };
  } else {
    return TaskHandler(std::move(callable));
  }
}

}  // namespace sluice
