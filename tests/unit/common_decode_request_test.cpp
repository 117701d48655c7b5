// What common_codec_test, common_bounds_test and common_vectors_test leave open: which member each
// key of a request lands in, and which field a value of another type is refused under.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "tests/support/wire_json.h"

namespace sluice::common_decode_request_test {
namespace {

using Json = test::WireJson;
using test::js;
using test::packed;
using testing::ElementsAre;

tl::expected<Request, BadRequest> decode(const char* op, Json body) {
  body["op"] = op;
  body["req"] = 1;
  return decode_request(packed(body));
}

template <typename Body>
Body body_of(const char* op, const Json& body) {
  auto request = decode(op, body);
  EXPECT_TRUE(request) << op << ": " << request.error().error.where;
  if (!request || !std::holds_alternative<Body>(request->body)) {
    ADD_FAILURE() << op << " became another request";
    return {};
  }
  return std::get<Body>(std::move(request->body));
}

JobSpec job_of(Json job) {
  const auto submit = body_of<Submit>("submit", {{"jobs", Json::array({std::move(job)})}});
  if (submit.jobs.empty()) return {};
  if (const auto* rejected = std::get_if<RejectedJob>(&submit.jobs[0])) {
    ADD_FAILURE() << rejected->error.where << ' ' << rejected->error.detail;
    return {};
  }
  return std::get<JobSpec>(submit.jobs[0]);
}

TEST(DecodeRequest, every_key_of_a_job_lands_in_its_member) {
  const JobSpec job =
      job_of(js(R"({"id": "a", "task": "t", "queue": "q", "payload": "bin:p", )"
                R"("content_type": "text/plain", "priority": "low", "run_at_ms": 1, )"
                R"("expires_at_ms": 2, "timeout_ms": 3, "max_retries": 4, )"
                R"("retry": {"base_ms": 5, "factor": 6.5, "cap_ms": 7, "jitter": 0.25}, )"
                R"("keep_result_ms": 8, "keep_payload": true, "tags": ["x", "y"], )"
                R"("headers": {"b": "1", "a": "2"}})"));
  EXPECT_EQ(job.id, JobId("a"));
  EXPECT_EQ(job.task, "t");
  EXPECT_EQ(job.queue, "q");
  EXPECT_EQ(job.payload, "p");
  EXPECT_EQ(job.content_type, "text/plain");
  EXPECT_EQ(job.priority, Priority::low);
  EXPECT_EQ(job.delay_ms, 0);
  EXPECT_EQ(job.run_at_ms, 1);
  EXPECT_EQ(job.expires_at_ms, 2);
  EXPECT_EQ(job.timeout_ms, 3);
  EXPECT_EQ(
      job.retry,
      (RetryPolicy{.max_retries = 4, .base_ms = 5, .factor = 6.5, .cap_ms = 7, .jitter = 0.25}));
  EXPECT_EQ(job.keep_result_ms, 8);
  EXPECT_TRUE(job.keep_payload);
  EXPECT_THAT(job.tags, ElementsAre("x", "y"));
  EXPECT_THAT(job.headers, ElementsAre(Header{"b", "1"}, Header{"a", "2"}));
  EXPECT_EQ(job.content_hash, content_hash_of(job));
  EXPECT_EQ(job_of(js(R"({"id": "a", "task": "t", "delay_ms": 9})")).delay_ms, 9);
}

TEST(DecodeRequest, what_a_job_leaves_out_has_the_default_and_a_strange_key_changes_nothing) {
  JobSpec expected;
  expected.id = JobId("a");
  expected.task = "t";
  const JobSpec bare = job_of(js(R"({"id": "a", "task": "t"})"));
  EXPECT_EQ(bare.content_hash, content_hash_of(expected));
  const JobSpec strange =
      job_of(js(R"({"x": {"y": [1, 2]}, "id": "a", "z": null, "task": "t", "op": "cancel"})"));
  EXPECT_EQ(strange.content_hash, bare.content_hash);
}

TEST(DecodeRequest, max_retries_wins_over_the_preset_wherever_it_stands) {
  for (const Json& job :
       {js(R"({"id": "a", "task": "t", "max_retries": 7, "retry": "patient"})"),
        js(R"({"id": "a", "task": "t", "retry": "patient", "max_retries": 7})")}) {
    RetryPolicy expected = *retry_preset("patient");
    expected.max_retries = 7;
    EXPECT_EQ(job_of(job).retry, expected) << job;
  }
}

TEST(DecodeRequest, a_cap_that_was_not_said_is_no_less_than_the_base) {
  const auto cap_of = [](const Json& retry) {
    return job_of({{"id", "a"}, {"task", "t"}, {"retry", retry}}).retry.cap_ms;
  };
  EXPECT_EQ(cap_of({{"base_ms", 2 * kBackoffCapDefaultMs}}), 2 * kBackoffCapDefaultMs);
  EXPECT_EQ(cap_of(js(R"({"base_ms": 1})")), kBackoffCapDefaultMs);
  EXPECT_EQ(cap_of(js(R"({"cap_ms": 10, "base_ms": 10})")), 10);
}

TEST(DecodeRequest, every_key_of_the_others_lands_in_its_member) {
  const Json filter = js(R"({"state": "running", "queue": "q", "task": "t", "tag": "x", )"
                         R"("error_code": "e", "cursor": "c", "limit": 7})");
  const Filter expected{JobState::running, "q", "t", "x", "e", "c", 7};
  const Json ids = js(R"({"ids": ["b", "a", "b"]})");
  const auto are_ids = ElementsAre(JobId("b"), JobId("a"), JobId("b"));
  EXPECT_EQ(body_of<List>("list", filter).filter, expected);
  EXPECT_EQ(body_of<List>("list", js(R"({"state": "failed"})")).filter.limit, 100U);
  EXPECT_EQ(body_of<Cancel>("cancel", {{"filter", filter}, {"reason", "r"}}).targets.filter,
            expected);
  EXPECT_EQ(body_of<Cancel>("cancel", {{"filter", filter}, {"reason", "r"}}).reason, "r");
  EXPECT_THAT(body_of<Cancel>("cancel", ids).targets.ids, are_ids);
  EXPECT_EQ(body_of<Retry>("retry", {{"filter", filter}}).targets.filter, expected);
  EXPECT_THAT(body_of<Delete>("delete", ids).targets.ids, are_ids);
  EXPECT_THAT(body_of<Get>("get", ids).ids, are_ids);
  EXPECT_THAT(body_of<Wait>("wait", ids).ids, are_ids);
  EXPECT_EQ(body_of<Wait>("wait", ids).timeout_ms, 60'000);
  EXPECT_EQ(body_of<Wait>("wait", js(R"({"ids": ["a"], "timeout_ms": 0})")).timeout_ms, 0);
  EXPECT_EQ(body_of<Pause>("pause", js(R"({"queue": "q"})")).queue, "q");
  EXPECT_EQ(body_of<Resume>("resume", js(R"({"queue": "q"})")).queue, "q");
  EXPECT_EQ(body_of<Purge>("purge", js(R"({"queue": "q"})")).queue, "q");
  EXPECT_EQ(body_of<Drain>("drain", js(R"({"node": "n@1"})")).node, "n@1");
  const auto resize =
      body_of<SetConcurrency>("set_concurrency", js(R"({"node": "n", "concurrency": 9})"));
  EXPECT_EQ(resize.node, "n");
  EXPECT_EQ(resize.concurrency, 9U);
}

struct Wrong {
  const char* op;
  Json body;
  const char* where;
  ErrorCode code = ErrorCode::bad_field;
};

TEST(DecodeRequest, a_value_that_is_none_is_refused_under_its_field) {
  constexpr auto kMissing = ErrorCode::malformed;
  const std::vector<Wrong> all = {
      {"submit", js(R"({"jobs": "a"})"), "jobs"},
      {"submit", js(R"({"wait": 1})"), "wait"},
      {"get", js(R"({"ids": "a"})"), "ids"},
      {"get", js(R"({"ids": ["a", "b/c"]})"), "ids[1]"},
      {"get", js(R"({"ids": [1]})"), "ids[0]"},
      {"get", Json::object(), "ids", kMissing},
      {"wait", Json::object(), "ids", kMissing},
      {"wait", js(R"({"ids": ["a"], "timeout_ms": "5"})"), "timeout_ms"},
      {"cancel", js(R"({"ids": []})"), "ids"},
      {"cancel", js(R"({"ids": ["a"], "reason": "bin:r"})"), "reason"},
      {"cancel", js(R"({"filter": "all"})"), "filter"},
      {"retry", js(R"({"filter": {"state": "sleeping"}})"), "filter.state"},
      {"retry", js(R"({"filter": {"queue": ""}})"), "filter.queue"},
      {"retry", Json::object(), "ids", kMissing},
      {"delete", js(R"({"filter": {"cursor": "c", "limit": 1}})"), "filter"},
      {"delete", js(R"({"filter": {"state": "failed", "limit": 1.0}})"), "filter.limit"},
      {"delete", Json::object(), "ids", kMissing},
      {"list", js(R"({"state": "Failed"})"), "state"},
      {"list", js(R"({"state": "failed", "tag": ""})"), "tag"},
      {"list", js(R"({"state": "failed", "error_code": ""})"), "error_code"},
      {"list", {{"state", "failed"}, {"cursor", "\xff"}}, "cursor"},
      {"pause", js(R"({"queue": 1})"), "queue"},
      {"pause", Json::object(), "queue", kMissing},
      {"resume", Json::object(), "queue", kMissing},
      {"purge", Json::object(), "queue", kMissing},
      {"drain", js(R"({"node": "@1"})"), "node"},
      {"drain", js(R"({"node": ""})"), "node"},
      {"drain", Json::object(), "node", kMissing},
      {"set_concurrency", js(R"({"concurrency": 1})"), "node", kMissing},
      {"set_concurrency", js(R"({"node": "n"})"), "concurrency", kMissing}};
  for (const Wrong& wrong : all) {
    const auto request = decode(wrong.op, wrong.body);
    ASSERT_FALSE(request) << wrong.op << ' ' << wrong.where;
    EXPECT_EQ(request.error().error.where, wrong.where) << wrong.op;
    EXPECT_EQ(request.error().error.code, wrong.code) << wrong.op << ' ' << wrong.where;
    EXPECT_EQ(request.error().req, "\x01");
  }
}

// The job that `extra` makes of a good one, refused.
RejectedJob rejected(const Json& extra) {
  Json job = js(R"({"id": "a", "task": "t"})");
  job.update(extra);
  const auto submit = body_of<Submit>("submit", {{"jobs", Json::array({std::move(job)})}});
  if (submit.jobs.size() == 1 && std::holds_alternative<RejectedJob>(submit.jobs[0]))
    return std::get<RejectedJob>(submit.jobs[0]);
  ADD_FAILURE() << "was taken: " << extra;
  return {};
}

TEST(DecodeRequest, a_job_with_a_value_that_is_none_is_refused_under_its_field) {
  const std::vector<std::pair<Json, const char*>> all = {
      {js(R"({"id": 1})"), "id"},
      {js(R"({"task": 1})"), "task"},
      {js(R"({"queue": "a b"})"), "queue"},
      {js(R"({"content_type": "bin:x"})"), "content_type"},
      {js(R"({"delay_ms": "5"})"), "delay_ms"},
      {js(R"({"run_at_ms": 1.5})"), "run_at_ms"},
      {js(R"({"timeout_ms": null})"), "timeout_ms"},
      {js(R"({"max_retries": -1})"), "max_retries"},
      {js(R"({"retry": "eager"})"), "retry"},
      {js(R"({"retry": 5})"), "retry"},
      {js(R"({"retry": {"factor": "2"}})"), "retry.factor"},
      {js(R"({"retry": {"base_ms": 1.5}})"), "retry.base_ms"},
      {js(R"({"keep_payload": 1})"), "keep_payload"},
      {js(R"({"tags": "x"})"), "tags"},
      {js(R"({"tags": ["x", 1]})"), "tags[1]"},
      {js(R"({"headers": ["x"]})"), "headers"},
      {js(R"({"headers": {"h": 1}})"), "headers.h"}};
  for (const auto& [extra, field] : all)
    EXPECT_EQ(rejected(extra).error.where, std::string("jobs[0].") + field) << extra;
}

// By it the sender finds the job that was refused.
TEST(DecodeRequest, a_refused_job_is_named_by_the_id_that_was_sent) {
  EXPECT_EQ(rejected(js(R"({"priority": "urgent"})")).id, "a");
  EXPECT_EQ(rejected(js(R"({"id": "no/good"})")).id, "no/good");
  EXPECT_EQ(rejected(js(R"({"id": "ä"})")).id, "\u00e4");
  EXPECT_EQ(rejected(js(R"({"id": 7})")).id, "");
  EXPECT_EQ(rejected(js(R"({"id": "bin:a"})")).id, "");
}

TEST(DecodeRequest, of_a_refused_id_that_is_too_long_the_first_64_bytes_come_back) {
  const auto id_of = [](const std::string& id) {
    return rejected({{"id", id}}).id;
  };
  const std::string full(64, 'a');
  EXPECT_EQ(id_of(full + "b"), full);
  EXPECT_EQ(id_of(full + std::string(5'000, 'b')), full);
  EXPECT_EQ(id_of(full.substr(1) + "/"), full.substr(1) + "/");
  // A character stays whole or goes.
  EXPECT_EQ(id_of(full.substr(2) + "\u00e4"), full.substr(2) + "\u00e4");
  EXPECT_EQ(id_of(full.substr(1) + "\u00e4"), full.substr(1));
  EXPECT_EQ(id_of(full.substr(3) + "\U0001f600"), full.substr(3));
  EXPECT_EQ(id_of(std::string(70, '\x9b')), "");
  EXPECT_EQ(id_of("\xff" + full), "");
}

}  // namespace
}  // namespace sluice::common_decode_request_test
