// What common_codec_test, common_bounds_test and common_vectors_test leave open: which member each
// key of a broker's message or event lands in, and which field a wrong value is refused under.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "tests/support/wire_json.h"

namespace sluice::common_decode_broker_test {
namespace {

using Json = test::WireJson;
using test::js;
using test::packed;
using testing::ElementsAre;

Result<BrokerMessage> decode(const char* op, const Json& body) {
  Json message = {{"op", op}, {"epoch", 3}, {"n", 4}};
  message.update(body);
  return decode_broker_message(packed(message));
}

template <typename Body>
Body body_of(const char* op, const Json& body) {
  auto message = decode(op, body);
  EXPECT_TRUE(message) << op << ": " << message.error().where;
  if (!message || !std::holds_alternative<Body>(message->body)) {
    ADD_FAILURE() << op << " became another message";
    return {};
  }
  EXPECT_EQ(message->number, (Seen{3, 4}));
  return std::get<Body>(std::move(message->body));
}

const Json kAttempt = js(R"({"id": "a", "epoch": 7, "attempt": 8})");
constexpr Fence kFence{7, 8};

Json attempt_with(const Json& extra) {
  Json attempt = kAttempt;
  attempt.update(extra);
  return attempt;
}

TEST(DecodeBroker, every_key_of_a_welcome_lands_in_its_member) {
  const auto welcome =
      body_of<Welcome>("welcome",
                       js(R"({"heartbeat_ms": 1, "dead_after_ms": 2, "result_bytes_max": 3, )"
                          R"("message_bytes_max": 4, "repeat": true})"));
  EXPECT_EQ(welcome.heartbeat_ms, 1);
  EXPECT_EQ(welcome.dead_after_ms, 2);
  EXPECT_EQ(welcome.result_bytes_max, 3U);
  EXPECT_EQ(welcome.message_bytes_max, 4U);
  EXPECT_TRUE(welcome.repeat);
  const auto bare = body_of<Welcome>("welcome", js(R"({"later": [1, 2]})"));
  EXPECT_EQ(bare.heartbeat_ms, kHeartbeatDefaultMs);
  EXPECT_EQ(bare.dead_after_ms, kDeadAfterDefaultMs);
  EXPECT_EQ(bare.result_bytes_max, kResultBytesMax);
  EXPECT_FALSE(bare.repeat);
}

TEST(DecodeBroker, every_key_of_a_job_to_run_lands_in_its_member) {
  const auto run = body_of<sluice::Run>(
      "run",
      {{"jobs",
        {attempt_with(
             js(R"({"task": "t", "queue": "q", "payload": "bin:p", "content_type": "x/y", )"
                R"("timeout_ms": 1, "life": 2, "retry_count": 3, "max_retries": 4, )"
                R"("headers": {"h": "v"}, "checkpoint": "bin:c"})")),
         attempt_with(js(R"({"task": "u"})"))}}});
  ASSERT_EQ(run.jobs.size(), 2U);
  const RunJob& job = run.jobs[0];
  EXPECT_EQ(job.id, JobId("a"));
  EXPECT_EQ(job.fence, kFence);
  EXPECT_EQ(job.task, "t");
  EXPECT_EQ(job.queue, "q");
  EXPECT_EQ(job.payload, "p");
  EXPECT_EQ(job.content_type, "x/y");
  EXPECT_EQ(job.timeout_ms, 1);
  EXPECT_EQ(job.life, 2U);
  EXPECT_EQ(job.retry_count, 3U);
  EXPECT_EQ(job.max_retries, 4U);
  EXPECT_THAT(job.headers, ElementsAre(Header{"h", "v"}));
  EXPECT_EQ(job.checkpoint, "c");
  EXPECT_EQ(run.jobs[1].life, 1U);
  EXPECT_EQ(run.jobs[1].timeout_ms, 0);
}

TEST(DecodeBroker, every_key_about_attempts_lands_in_its_member) {
  const Json attempts = {{"attempts", {kAttempt, js(R"({"id": "b", "epoch": 1, "attempt": 2})")}}};
  const auto cancel = body_of<CancelAttempts>("cancel", attempts).attempts;
  const auto drop = body_of<DropAttempts>("drop", attempts).attempts;
  for (const auto& refs : {cancel, drop}) {
    ASSERT_EQ(refs.size(), 2U);
    EXPECT_EQ(refs[0].id, JobId("a"));
    EXPECT_EQ(refs[0].fence, kFence);
    EXPECT_EQ(refs[1].fence, (Fence{1, 2}));
  }
  const auto ack = body_of<Ack>(
      "ack",
      {{"results",
        {attempt_with(js(R"({"stale": true})")), attempt_with(js(R"({"checkpoint_n": 9})"))}}});
  ASSERT_EQ(ack.results.size(), 2U);
  EXPECT_EQ(ack.results[0].fence, kFence);
  EXPECT_TRUE(ack.results[0].stale);
  EXPECT_EQ(ack.results[0].checkpoint_n, 0U) << "of the result";
  EXPECT_FALSE(ack.results[1].stale);
  EXPECT_EQ(ack.results[1].checkpoint_n, 9U);
}

TEST(DecodeBroker, wishes_and_refusals_land_in_their_members) {
  EXPECT_EQ(body_of<ConcurrencyWish>("set_concurrency", js(R"({"concurrency": 9})")).concurrency,
            9U);
  body_of<DrainWish>("drain", js(R"({"later": 1})"));
  const auto refused =
      body_of<Refused>("error", js(R"({"code": "denied", "field": "node", "message": "m"})"));
  EXPECT_EQ(refused.error.code, ErrorCode::denied);
  EXPECT_EQ(refused.error.where, "node");
  EXPECT_EQ(refused.error.detail, "m");
  EXPECT_EQ(body_of<Refused>("error", js(R"({"code": "too_hot"})")).error.code, ErrorCode::internal)
      << "a code of a later version";
}

struct Wrong {
  const char* op;
  Json body;
  const char* where;
  ErrorCode code = ErrorCode::bad_field;
};

TEST(DecodeBroker, a_wrong_value_is_refused_under_its_field) {
  constexpr auto kMissing = ErrorCode::malformed;
  constexpr auto kLarge = ErrorCode::too_large;
  const auto job = [](const Json& extra) {
    Json made = attempt_with(js(R"({"task": "t"})"));
    made.update(extra);
    return Json{{"jobs", Json::array({made})}};
  };
  const std::vector<Wrong> all = {
      {"drain", js(R"({"epoch": -1})"), "epoch"},
      {"drain", js(R"({"n": "1"})"), "n"},
      {"welcome", {{"heartbeat_ms", kTenYearsMs + 1}}, "heartbeat_ms"},
      {"welcome", js(R"({"dead_after_ms": 0})"), "dead_after_ms"},
      {"welcome", {{"dead_after_ms", kTenYearsMs + 1}}, "dead_after_ms"},
      {"welcome", js(R"({"result_bytes_max": -1})"), "result_bytes_max"},
      {"welcome", js(R"({"message_bytes_max": 1.5})"), "message_bytes_max"},
      {"welcome", js(R"({"repeat": 1})"), "repeat"},
      {"run", js(R"({"jobs": []})"), "jobs"},
      {"run", {{"jobs", {kAttempt}}}, "jobs[0].task", kMissing},
      {"run", js(R"({"jobs": [{"task": "t", "attempt": 1}]})"), "jobs[0].id", kMissing},
      {"run", js(R"({"jobs": [{"task": "t", "id": "a"}]})"), "jobs[0].attempt", kMissing},
      {"run", job(js(R"({"queue": "a b"})")), "jobs[0].queue"},
      {"run", job(js(R"({"payload": "text"})")), "jobs[0].payload"},
      {"run", job(js(R"({"timeout_ms": -1})")), "jobs[0].timeout_ms"},
      {"run", job({{"timeout_ms", kTenYearsMs + 1}}), "jobs[0].timeout_ms"},
      {"run", job(js(R"({"life": -1})")), "jobs[0].life"},
      {"run", job(js(R"({"retry_count": "1"})")), "jobs[0].retry_count"},
      {"run", job({{"max_retries", std::uint64_t{1} << 32}}), "jobs[0].max_retries"},
      {"run", job({{"headers", {{"h", std::string(1025, 'x')}}}}), "jobs[0].headers.h", kLarge},
      {"run", job(js(R"({"checkpoint": "text"})")), "jobs[0].checkpoint"},
      {"run", job(js(R"({"epoch": -1})")), "jobs[0].epoch"},
      {"run", job({{"attempt", std::uint64_t{1} << 32}}), "jobs[0].attempt"},
      {"cancel", js(R"({"attempts": [{"id": "a/b"}]})"), "attempts[0].id"},
      {"cancel", js(R"({"attempts": [{"id": "a"}]})"), "attempts[0].attempt", kMissing},
      {"ack", js(R"({"results": []})"), "results"},
      {"ack", js(R"({"results": [{"attempt": 1}]})"), "results[0].id", kMissing},
      {"ack", {{"results", {attempt_with(js(R"({"stale": "no"})"))}}}, "results[0].stale"},
      {"ack",
       {{"results", {attempt_with(js(R"({"checkpoint_n": -1})"))}}},
       "results[0].checkpoint_n"},
      {"error", js(R"({"code": 1})"), "code"},
      {"error", {{"field", std::string(4097, 'x')}}, "field", kLarge},
      {"error", {{"message", std::string(4097, 'x')}}, "message", kLarge}};
  for (const Wrong& wrong : all) {
    const auto message = decode(wrong.op, wrong.body);
    ASSERT_FALSE(message) << wrong.op << ' ' << wrong.where;
    EXPECT_EQ(message.error().where, wrong.where);
    EXPECT_EQ(message.error().code, wrong.code) << wrong.where;
  }
}

Result<SequencedEvent> event(const Json& body) {
  Json message = js(R"({"op": "event", "sequence": 5, "kind": "job"})");
  message.update(body);
  return decode_event(packed(message));
}

TEST(DecodeEvent, every_key_lands_in_its_member) {
  const auto of_job =
      event(js(R"({"what": "failed", "id": "a", "queue": "q", "task": "t", "node": "n@1", )"
               R"("attempt": 1, "retry_count": 2, "percent": 3, "error_code": "e", "at_ms": 4, )"
               R"("later": [1]})"));
  ASSERT_TRUE(of_job);
  EXPECT_EQ(of_job->sequence, 5U);
  const auto& job = std::get<JobEvent>(of_job->event);
  EXPECT_EQ(job.what, "failed");
  EXPECT_EQ(job.id, JobId("a"));
  EXPECT_EQ(job.queue, "q");
  EXPECT_EQ(job.task, "t");
  EXPECT_EQ(job.node, "n@1");
  EXPECT_EQ(job.attempt, 1U);
  EXPECT_EQ(job.retry_count, 2U);
  EXPECT_EQ(job.percent, 3U);
  EXPECT_EQ(job.error_code, "e");
  EXPECT_EQ(job.at_ms, 4);
  const auto of_node = event(js(R"({"kind": "node", "what": "left", "node": "n@1", "at_ms": 4})"));
  ASSERT_TRUE(of_node);
  const auto& node = std::get<NodeEvent>(of_node->event);
  EXPECT_EQ(node.what, "left");
  EXPECT_EQ(node.node, "n@1");
  EXPECT_EQ(node.at_ms, 4);
  Json of_chunk = js(R"({"kind": "log", "id": "a", "offset": 1, "attempt": 2, "at_ms": 3})");
  of_chunk["bytes"] = Json::binary({0xff});
  const auto of_log = event(of_chunk);
  ASSERT_TRUE(of_log);
  const auto& log = std::get<LogEvent>(of_log->event);
  EXPECT_EQ(log.id, JobId("a"));
  EXPECT_EQ(log.chunk, (LogChunk{1, 2, 3, "\xff"}));
}

TEST(DecodeEvent, a_wrong_value_is_refused_under_its_field) {
  const std::vector<std::pair<Json, const char*>> all = {
      {js(R"({"sequence": -1})"), "sequence"},
      {js(R"({"kind": 1})"), "kind"},
      {js(R"({"kind": "queue"})"), "kind"},
      {js(R"({"what": ""})"), "what"},
      {js(R"({"id": "a/b"})"), "id"},
      {js(R"({"queue": "a b"})"), "queue"},
      {js(R"({"task": 1})"), "task"},
      {{{"node", std::string(97, 'x')}}, "node"},
      {{{"kind", "node"}, {"node", std::string(97, 'x')}}, "node"},
      {js(R"({"kind": "node", "at_ms": -1})"), "at_ms"},
      {js(R"({"attempt": -1})"), "attempt"},
      {js(R"({"percent": "5"})"), "percent"},
      {{{"error_code", std::string(65, 'x')}}, "error_code"},
      {js(R"({"at_ms": 1.5})"), "at_ms"}};
  for (const auto& [body, where] : all) {
    const auto read = event(body);
    ASSERT_FALSE(read) << body;
    EXPECT_EQ(read.error().where, where) << body;
  }
}

}  // namespace
}  // namespace sluice::common_decode_broker_test
