// What common_codec_test, common_bounds_test and common_vectors_test leave open: which member each
// key of a worker's message lands in, and which field a wrong value is refused under.
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "tests/support/wire_json.h"

namespace sluice::common_decode_worker_test {
namespace {

using Json = test::WireJson;
using test::js;
using test::packed;
using testing::ElementsAre;

// `wrong` is set to the first wrong entry of a result.
Result<WorkerMessage> decode(const char* op, const Json& body, std::optional<Error>* wrong = {}) {
  Json message = {{"op", op}, {"node", "n@1"}};
  message.update(body);
  return decode_worker_message(packed(message), wrong);
}

template <typename Message>
Message message_of(const char* op, const Json& body) {
  std::optional<Error> wrong;
  auto message = decode(op, body, &wrong);
  EXPECT_TRUE(message) << op << ": " << message.error().where;
  EXPECT_FALSE(wrong) << wrong->where;
  if (!message || !std::holds_alternative<Message>(*message)) {
    ADD_FAILURE() << op << " became another message";
    return {};
  }
  return std::get<Message>(std::move(*message));
}

const Json kAttempt = js(R"({"id": "a", "epoch": 7, "attempt": 8})");
constexpr Fence kFence{7, 8};

Json attempt_with(const Json& extra) {
  Json attempt = kAttempt;
  attempt.update(extra);
  return attempt;
}

AttemptResult result_of(const Json& extra) {
  const auto results = message_of<Results>("result", {{"results", {attempt_with(extra)}}});
  return results.results.empty() ? AttemptResult{} : results.results[0];
}

TEST(DecodeWorker, every_key_of_a_log_lands_in_its_member) {
  const auto log = message_of<Log>("log", attempt_with({{"bytes", Json::binary({0xff, 0x0a})}}));
  EXPECT_EQ(log.node, "n@1");
  EXPECT_EQ(log.id, JobId("a"));
  EXPECT_EQ(log.fence, kFence);
  EXPECT_EQ(log.bytes, "\xff\n");
}

TEST(DecodeWorker, every_key_of_a_status_lands_in_its_member) {
  const auto status = message_of<Status>(
      "status",
      {{"replaces", "n@0"},
       {"seq", 1},
       {"concurrency", 2},
       {"tasks", {"t"}},
       {"queues", {"q"}},
       {"labels", js(R"({"zone": "a"})")},
       {"draining", true},
       {"version", "9"},
       {"isolates",
        {js(R"({"task": "t", "total": 1, "busy": 2, "waiting": 3, "jobs": 4, "crashes": 5, )"
            R"("recycles": 6, "busy_ms": 7})")}},
       {"held", {attempt_with(js(R"({"phase": "finished"})")), kAttempt}},
       {"seen", js(R"({"epoch": 3, "n": 4})")}});
  EXPECT_EQ(status.node, "n@1");
  EXPECT_EQ(status.replaces, "n@0");
  EXPECT_EQ(status.seq, 1U);
  EXPECT_EQ(status.concurrency, 2U);
  EXPECT_THAT(status.tasks, ElementsAre("t"));
  EXPECT_THAT(status.queues, ElementsAre("q"));
  EXPECT_THAT(status.labels, ElementsAre(Header{"zone", "a"}));
  EXPECT_TRUE(status.draining);
  EXPECT_EQ(status.version, "9");
  EXPECT_THAT(status.isolates, ElementsAre(IsolateFigures{"t", 1, 2, 3, 4, 5, 6, 7}));
  ASSERT_EQ(status.held.size(), 2U);
  EXPECT_EQ(status.held[0].id, JobId("a"));
  EXPECT_EQ(status.held[0].fence, kFence);
  EXPECT_EQ(status.held[0].phase, Phase::finished);
  EXPECT_EQ(status.held[1].phase, Phase::waiting);
  EXPECT_EQ(status.seen, (Seen{3, 4}));
}

TEST(DecodeWorker, what_a_status_leaves_out_has_its_default) {
  const auto status = message_of<Status>("status", js(R"({"replaces": "", "later": [1, [2]]})"));
  EXPECT_EQ(status.replaces, "");
  EXPECT_EQ(status.concurrency, 1U);
  EXPECT_TRUE(status.queues.empty()) << "every queue";
  EXPECT_FALSE(status.draining);
  EXPECT_EQ(status.seen, Seen{});
}

TEST(DecodeWorker, every_key_of_a_result_lands_in_its_member) {
  const AttemptResult done =
      result_of(js(R"({"outcome": "completed", "result": "bin:p", "usage": {"cpu_ms": 1, )"
                   R"("rss_bytes_max": 2}})"));
  EXPECT_EQ(done.id, JobId("a"));
  EXPECT_EQ(done.fence, kFence);
  EXPECT_EQ(done.outcome, Outcome::completed);
  EXPECT_EQ(done.result, "p");
  EXPECT_EQ(done.usage.cpu_ms, 1);
  EXPECT_EQ(done.usage.rss_bytes_max, 2);
  const AttemptResult failed =
      result_of(js(R"({"outcome": "failed", "error": {"code": "c", "message": "m", )"
                   R"("retryable": false, "retry_after_ms": 3}})"));
  EXPECT_EQ(failed.outcome, Outcome::failed);
  EXPECT_EQ(failed.error_code, "c");
  EXPECT_EQ(failed.error, "m");
  EXPECT_FALSE(failed.retryable);
  EXPECT_EQ(failed.retry_after_ms, 3);
}

TEST(DecodeWorker, a_failure_that_says_nothing_of_itself_may_be_tried_again) {
  for (const Json& error : {Json(nullptr), Json(Json::object())}) {
    Json result = js(R"({"outcome": "failed"})");
    if (!error.is_null()) result["error"] = error;
    const AttemptResult failed = result_of(result);
    EXPECT_EQ(failed.error_code, "failed");
    EXPECT_TRUE(failed.retryable);
    EXPECT_EQ(failed.retry_after_ms, std::nullopt);
  }
}

// To refuse them would make their worker repeat the message for ever.
TEST(DecodeWorker, what_is_no_part_of_an_outcome_is_passed_over_whatever_it_holds) {
  const Json both = js(R"({"result": "no bytes", "error": {"code": 5}})");
  for (const char* outcome : {"cancelled", "handed_back"}) {
    Json result = both;
    result["outcome"] = outcome;
    EXPECT_EQ(to_string(result_of(result).outcome), outcome);
  }
  EXPECT_EQ(result_of(js(R"({"error": 5, "outcome": "completed", "result": "bin:r"})")).result,
            "r");
  EXPECT_EQ(result_of(js(R"({"result": 5, "outcome": "failed"})")).result, "");
}

TEST(DecodeWorker, every_key_of_a_progress_lands_in_its_member) {
  const auto progress = message_of<Progress>(
      "progress",
      attempt_with(
          js(R"({"percent": 1, "message": "m", "checkpoint": "bin:", "checkpoint_n": 2})")));
  EXPECT_EQ(progress.node, "n@1");
  EXPECT_EQ(progress.id, JobId("a"));
  EXPECT_EQ(progress.fence, kFence);
  EXPECT_EQ(progress.percent, 1U);
  EXPECT_EQ(progress.message, "m");
  EXPECT_EQ(progress.checkpoint, "") << "an empty one is one";
  EXPECT_EQ(progress.checkpoint_n, 2U);
  EXPECT_EQ(message_of<Progress>("progress", kAttempt).checkpoint, std::nullopt);
  EXPECT_EQ(message_of<Goodbye>("goodbye", js(R"({"later": 1})")).node, "n@1");
}

struct Wrong {
  const char* op;
  Json body;
  const char* where;
  ErrorCode code = ErrorCode::bad_field;
};

TEST(DecodeWorker, a_wrong_value_is_refused_under_its_field) {
  constexpr auto kMissing = ErrorCode::malformed;
  const std::vector<Wrong> all = {
      {"status", js(R"({"seq": -1})"), "seq"},
      {"status", js(R"({"replaces": 1})"), "replaces"},
      {"status", js(R"({"tasks": "t"})"), "tasks"},
      {"status", js(R"({"tasks": ["a:b"]})"), "tasks[0]"},
      {"status", js(R"({"queues": ["q", ""]})"), "queues[1]"},
      {"status", js(R"({"labels": {"a b": "x"}})"), "labels"},
      {"status", js(R"({"draining": 1})"), "draining"},
      {"status", js(R"({"isolates": [{"task": "t", "busy": -1}]})"), "isolates[0].busy"},
      {"status", js(R"({"isolates": [{"task": "t", "busy_ms": -1}]})"), "isolates[0].busy_ms"},
      {"status", js(R"({"isolates": [{}]})"), "isolates[0].task", kMissing},
      {"status", {{"held", {attempt_with(js(R"({"phase": "gone"})"))}}}, "held[0].phase"},
      {"status", js(R"({"held": [{"epoch": 1, "attempt": 1}]})"), "held[0].id", kMissing},
      {"status", js(R"({"held": [{"id": "a", "epoch": 1}]})"), "held[0].attempt", kMissing},
      {"status", js(R"({"seen": 1})"), "seen"},
      {"status", js(R"({"seen": {"epoch": -1}})"), "seen.epoch"},
      {"status", js(R"({"seen": {"n": "1"}})"), "seen.n"},
      {"result", Json::object(), "results", kMissing},
      {"result", {{"node", "n"}, {"results", {kAttempt}}}, "node"},
      {"progress", attempt_with(js(R"({"percent": "5"})")), "percent"},
      {"progress", attempt_with(js(R"({"message": 5})")), "message"},
      {"progress", attempt_with(js(R"({"checkpoint": "c"})")), "checkpoint"},
      {"progress", attempt_with(js(R"({"checkpoint_n": -1})")), "checkpoint_n"},
      {"progress", js(R"({"epoch": 1, "attempt": 1})"), "id", kMissing},
      {"progress", js(R"({"id": "a", "attempt": 1})"), "epoch", kMissing},
      {"progress", js(R"({"id": "a", "epoch": 1})"), "attempt", kMissing},
      {"goodbye", js(R"({"node": ""})"), "node"},
      {"goodbye", js(R"({"node": "n"})"), "node"}};
  for (const Wrong& wrong : all) {
    const auto message = decode(wrong.op, wrong.body);
    ASSERT_FALSE(message) << wrong.op << ' ' << wrong.where;
    EXPECT_EQ(message.error().where, wrong.where);
    EXPECT_EQ(message.error().code, wrong.code) << wrong.where;
  }
}

TEST(DecodeWorker, a_wrong_result_fails_its_attempt_under_the_field_that_was_wrong) {
  const std::vector<std::pair<Json, const char*>> all = {
      {Json::object(), "results[0].outcome"},
      {js(R"({"outcome": "won"})"), "results[0].outcome"},
      {js(R"({"outcome": "completed", "result": "text"})"), "results[0].result"},
      {js(R"({"outcome": "failed", "error": "text"})"), "results[0].error"},
      {js(R"({"outcome": "failed", "error": {"code": ""}})"), "results[0].error.code"},
      {js(R"({"outcome": "failed", "error": {"message": 5}})"), "results[0].error.message"},
      {js(R"({"outcome": "failed", "error": {"retryable": 5}})"), "results[0].error.retryable"},
      {js(R"({"outcome": "cancelled", "usage": 5})"), "results[0].usage"},
      {js(R"({"outcome": "cancelled", "usage": {"rss_bytes_max": -1}})"),
       "results[0].usage.rss_bytes_max"}};
  for (const auto& [extra, where] : all) {
    std::optional<Error> wrong;
    const auto message = decode("result", {{"results", {attempt_with(extra)}}}, &wrong);
    ASSERT_TRUE(message) << where;
    ASSERT_TRUE(wrong) << where;
    EXPECT_EQ(wrong->where, where);
    const auto& result = std::get<Results>(*message).results.at(0);
    EXPECT_EQ(result.fence, kFence);
    EXPECT_EQ(result.outcome, Outcome::failed) << where;
    EXPECT_EQ(result.error_code, "bad_result") << where;
    EXPECT_THAT(result.error, testing::HasSubstr(where));
  }
}

TEST(DecodeWorker, a_result_none_of_whose_entries_names_an_attempt_is_refused) {
  const auto message =
      decode("result",
             js(R"({"results": [{"outcome": "failed"}, {"id": "b", "outcome": "failed"}]})"));
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().where, "results[0].id");
}

}  // namespace
}  // namespace sluice::common_decode_worker_test
