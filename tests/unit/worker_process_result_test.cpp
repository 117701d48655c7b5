#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "worker/runtime/process_result.h"

namespace sluice::worker_process_result_test {
namespace {

RunJob some_job() {
  RunJob job;
  job.id = JobId("a");
  job.fence = {7, 3};
  return job;
}

TEST(ProcessResult, a_job_is_handed_back_when_the_node_is_short_of_something_and_else_has_failed) {
  for (const int error : {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EAGAIN, ETXTBSY})
    EXPECT_EQ(cannot_start(some_job(), error).outcome, Outcome::handed_back) << error;
  for (const int error : {E2BIG, EPERM, EIO, EINVAL}) {
    const AttemptResult result = cannot_start(some_job(), error);
    EXPECT_EQ(result.outcome, Outcome::failed) << error;
    EXPECT_TRUE(result.retryable) << "another node may do it";
  }
}

TEST(ProcessResult, that_nothing_started_is_said_with_the_system_s_words) {
  for (const int error : {EMFILE, E2BIG})
    EXPECT_EQ(cannot_start(some_job(), error).error_code, "cannot_start");
  EXPECT_EQ(cannot_start(some_job(), E2BIG).error, "cannot start: Argument list too long");
  EXPECT_EQ(cannot_start(some_job(), EMFILE).error, "cannot start: Too many open files");
  EXPECT_EQ(cannot_start(some_job(), EMFILE).fence, (Fence{7, 3}));
}

TEST(ProcessResult, a_stop_has_the_outcome_of_its_reason) {
  for (const auto& [reason, outcome] : {std::pair{StopReason::cancel, Outcome::cancelled},
                                        {StopReason::dropped, Outcome::cancelled},
                                        {StopReason::hand_back, Outcome::handed_back},
                                        {StopReason::timed_out, Outcome::failed}}) {
    const AttemptResult result = stopped_attempt(some_job(), reason, "last words");
    EXPECT_EQ(result.outcome, outcome) << to_string(reason);
    EXPECT_EQ(result.id, JobId("a"));
    EXPECT_EQ(result.fence, (Fence{7, 3}));
    if (outcome == Outcome::failed) continue;
    // With a code, a handed back one would be logged as a shortage of the node.
    EXPECT_EQ(result.error_code + result.error, "") << to_string(reason);
  }
}

TEST(ProcessResult, a_time_out_may_be_tried_again_and_shows_what_was_said_last) {
  const AttemptResult result = stopped_attempt(some_job(), StopReason::timed_out, "last words");
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_EQ(result.error, "stopped: its time was over\nlast words");
  EXPECT_TRUE(result.retryable);
  EXPECT_EQ(stopped_attempt(some_job(), StopReason::timed_out).error, "stopped: its time was over");
}

TEST(ProcessResult, an_end_is_told_in_words) {
  SpawnReport report;
  report.exec_errno = ENOENT;
  EXPECT_EQ(how_it_ended(report), "cannot start: No such file or directory");
  report.exec_errno = 0;
  report.wait_status = 3 << 8;  // as wait(2) has it
  EXPECT_EQ(how_it_ended(report), "exited with code 3");
  report.wait_status = SIGSEGV;
  EXPECT_EQ(how_it_ended(report), "killed by SIGSEGV");
  report.is_keeper_lost = 1;
  EXPECT_EQ(how_it_ended(report), "lost its keeper");
}

TEST(ProcessResult, signals_have_names_and_those_without_one_their_number) {
  EXPECT_EQ(signal_name(SIGKILL), "SIGKILL");
  EXPECT_EQ(signal_name(SIGXCPU), "SIGXCPU");
  EXPECT_EQ(signal_name(40), "SIG40");
}

}  // namespace
}  // namespace sluice::worker_process_result_test
