#include "worker/runtime/process_result.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice {

namespace {

// What passes by itself; ETXTBSY: the program's file is being written just now.
bool is_shortage(int error) {
  constexpr std::array kShortages{EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EAGAIN, ETXTBSY};
  return std::ranges::find(kShortages, error) != kShortages.end();
}

}  // namespace

AttemptResult failed_attempt(const RunJob& job,
                             std::string code,
                             std::string text,
                             bool can_retry) {
  AttemptResult result;
  result.id = job.id;
  result.fence = job.fence;
  result.outcome = Outcome::failed;
  result.error_code = std::move(code);
  result.error = std::move(text);
  result.retryable = can_retry;
  return result;
}

AttemptResult cannot_start(const RunJob& job, int error) {
  AttemptResult result = failed_attempt(job,
                                        "cannot_start",
                                        std::string("cannot start: ") + std::strerror(error),
                                        true);
  if (is_shortage(error)) result.outcome = Outcome::handed_back;
  return result;
}

AttemptResult stopped_attempt(const RunJob& job, StopReason reason, const std::string& tail) {
  if (reason == StopReason::timed_out)
    return failed_attempt(job, "timeout", with_tail(kTimeWasOver, tail), true);
  AttemptResult result;
  result.id = job.id;
  result.fence = job.fence;
  result.outcome = reason == StopReason::hand_back ? Outcome::handed_back : Outcome::cancelled;
  return result;
}

Usage usage_of(const SpawnReport& report) {
  return {report.cpu_ms + report.left_cpu_ms, report.rss_bytes_max};
}

std::string how_it_ended(const SpawnReport& report) {
  if (report.exec_errno != 0)
    return std::string("cannot start: ") + std::strerror(report.exec_errno);
  if (report.is_keeper_lost != 0) return "lost its keeper";
  if (WIFSIGNALED(report.wait_status))
    return "killed by " + signal_name(WTERMSIG(report.wait_status));
  return "exited with code " + std::to_string(WEXITSTATUS(report.wait_status));
}

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? "SIG" + std::string(name) : "SIG" + std::to_string(signal);
}

std::string with_tail(std::string text, const std::string& tail) {
  return tail.empty() ? text : std::move(text) + "\n" + tail;
}

}  // namespace sluice
