#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/log_line.h"

namespace sluice::worker_log_line_test {
namespace {

const AttemptKey kKey{JobId("a"), {7, 3}};

class WorkerLog : public testing::Test {
 protected:
  WorkerLog() {
    log::set_up(
        {.level = LogLevel::debug, .format = log::Format::logfmt, .repeats_per_second_max = 0});
  }

  ~WorkerLog() override { log::set_up({}); }

  // The fact's line without its time and its end; empty when there is none.
  static std::string line(const WorkerFact& fact) {
    testing::internal::CaptureStderr();
    log_fact(fact);
    const std::string text = testing::internal::GetCapturedStderr();
    if (text.empty()) return text;
    EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
    const std::size_t begin = text.find("Z ") + 2;
    return text.substr(begin, text.size() - begin - 1);
  }
};

TEST_F(WorkerLog, every_attempt_s_line_names_its_job_and_its_number) {
  for (const auto& [fact, expected] : std::vector<std::pair<WorkerFact, std::string>>{
           {AttemptStarted{kKey, "t"}, "debug attempt_started job=a attempt=3 task=t"},
           {AttemptStopping{kKey, StopReason::hand_back},
            "info attempt_stopping job=a attempt=3 reason=hand_back"},
           {AttemptDropped{kKey}, "warn attempt_dropped job=a attempt=3"},
           {ResultRecorded{kKey, true}, "warn result_stale job=a attempt=3"}})
    EXPECT_EQ(line(fact), expected);
}

TEST_F(WorkerLog, an_end_is_told_as_loudly_as_it_is_rare) {
  const auto ended = [](Outcome outcome, std::string code = {}) {
    return line(AttemptEnded{kKey, outcome, std::move(code), "words"});
  };
  EXPECT_EQ(ended(Outcome::completed), "debug attempt_completed job=a attempt=3");
  EXPECT_EQ(ended(Outcome::cancelled), "info attempt_cancelled job=a attempt=3");
  EXPECT_EQ(ended(Outcome::handed_back), "info attempt_handed_back job=a attempt=3");
  EXPECT_EQ(ended(Outcome::failed, "exit_1"),
            "info attempt_failed job=a attempt=3 error_code=exit_1 error=words");
  EXPECT_EQ(ended(Outcome::handed_back, "cannot_start"),
            "warn attempt_handed_back job=a attempt=3 error_code=cannot_start error=words")
      << "the node is short of something";
}

TEST_F(WorkerLog, of_a_long_error_there_are_200_bytes) {
  const std::string text =
      line(AttemptEnded{kKey, Outcome::failed, "exit_1", std::string(199, 'e') + "yz"});
  EXPECT_TRUE(text.ends_with("error=" + std::string(199, 'e') + "y")) << text;
}

TEST_F(WorkerLog, what_the_broker_did_is_told_with_its_numbers) {
  for (const auto& [fact, expected] : std::vector<std::pair<WorkerFact, std::string>>{
           {BrokerWelcomed{9}, "info broker_welcomed epoch=9"},
           {BrokerLost{2, 5},
            "warn broker_lost running=2 unacknowledged=5 what_next=\"what runs goes on; results "
            "are kept until the broker is back\""},
           {BrokerRefused{{ErrorCode::bad_field, "node", "no"}},
            "error broker_refused field=node detail=no"},
           {OldMessageIgnored{{8, 4}}, "debug old_message_ignored epoch=8 n=4"},
           {ConcurrencyChanged{6}, "info concurrency_changed concurrency=6"}})
    EXPECT_EQ(line(fact), expected);
}

TEST_F(WorkerLog, a_node_that_leaves_warns_only_when_results_stay_open) {
  EXPECT_EQ(line(DrainBegun{"signal", 2}), "info drain_begun why=signal running=2");
  EXPECT_EQ(line(NodeLeaving{0}), "info node_leaving unacknowledged=0");
  EXPECT_EQ(line(NodeLeaving{1}), "warn node_leaving unacknowledged=1");
}

TEST_F(WorkerLog, a_result_that_was_recorded_as_it_should_be_has_no_line) {
  EXPECT_EQ(line(ResultRecorded{kKey, false}), "");
}

}  // namespace
}  // namespace sluice::worker_log_line_test
