// What common_codec_test and common_vectors_test leave open: which member each key of an answer
// lands in, and which field a wrong value is refused under.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "tests/support/wire_json.h"

namespace sluice::common_decode_reply_test {
namespace {

using Json = test::WireJson;
using test::bin;
using test::js;
using test::packed;
using testing::ElementsAre;

Result<Reply> decode(const char* op, Json body) {
  body["op"] = op;
  body["req"] = 1;
  return decode_reply(packed(body));
}

template <typename Body>
Body body_of(const char* op, const Json& body) {
  auto reply = decode(op, body);
  EXPECT_TRUE(reply) << op << ": " << reply.error().where;
  if (!reply || !std::holds_alternative<Body>(reply->body)) {
    ADD_FAILURE() << op << " became another answer";
    return {};
  }
  return std::get<Body>(std::move(reply->body));
}

JobView view_of(const Json& view) {
  const Jobs jobs = body_of<Jobs>("jobs", {{"jobs", Json::array({view})}});
  return jobs.jobs.empty() ? JobView{} : jobs.jobs[0];
}

const Json kNumbersOfAJob =
    js(R"({"id": "a", "state": "running", "retry_count": 1, "max_retries": 2, )"
       R"("attempt": 3, "epoch": 4, "lost_count": 5, "life": 6, "revision": 7, )"
       R"("created_ms": 8, "due_ms": 9, "expires_at_ms": 10, "timeout_ms": 11, )"
       R"("started_ms": 12, "finished_ms": 13, "cancel_requested_ms": 14, )"
       R"("progress": 15})");

TEST(DecodeReply, every_number_of_a_job_lands_in_its_member) {
  const JobView view = view_of(kNumbersOfAJob);
  ASSERT_TRUE(view.job);
  const Job& job = *view.job;
  EXPECT_EQ(view.id, JobId("a"));
  EXPECT_EQ(view.state, JobState::running);
  EXPECT_EQ(job.state, JobState::running);
  EXPECT_EQ(job.retry_count, 1U);
  EXPECT_EQ(job.spec.retry.max_retries, 2U);
  EXPECT_EQ(job.fence(), (Fence{4, 3}));
  EXPECT_EQ(job.lost_count, 5U);
  EXPECT_EQ(job.life, 6U);
  EXPECT_EQ(job.revision, 7U);
  EXPECT_EQ(job.created_ms, 8);
  EXPECT_EQ(job.due_ms, 9);
  EXPECT_EQ(job.spec.expires_at_ms, 10);
  EXPECT_EQ(job.spec.timeout_ms, 11);
  EXPECT_EQ(job.started_ms, 12);
  EXPECT_EQ(job.finished_ms, 13);
  EXPECT_EQ(view.finished_ms, 13);
  EXPECT_EQ(job.cancel_requested_ms, 14);
  EXPECT_EQ(job.progress_percent, 15U);
}

TEST(DecodeReply, every_text_of_a_job_lands_in_its_member) {
  const JobView view =
      view_of(js(R"({"id": "a", "queue": "q", "task": "t", "priority": "critical", "node": "n@1", )"
                 R"("cancel_reason": "r", "error_code": "c", "error": "e", )"
                 R"("progress_message": "m", "content_type": "x/y", "payload": "bin:p", )"
                 R"("result": "bin:p", "tags": ["x", "y"], "headers": {"h": "v"}, )"
                 R"("attempts": [{"attempt": 1, "node": "n@2", "started_ms": 2, "ended_ms": 3, )"
                 R"("outcome": "timed_out", "error_code": "tc", "error": "te", "cpu_ms": 4, )"
                 R"("rss_bytes_max": 5}]})"));
  ASSERT_TRUE(view.job);
  const Job& job = *view.job;
  EXPECT_EQ(job.spec.queue, "q");
  EXPECT_EQ(job.spec.task, "t");
  EXPECT_EQ(job.spec.priority, Priority::critical);
  EXPECT_EQ(job.node, "n@1");
  EXPECT_EQ(job.cancel_reason, "r");
  EXPECT_EQ(job.error_code, "c");
  EXPECT_EQ(job.error, "e");
  EXPECT_EQ(job.progress_message, "m");
  EXPECT_EQ(job.spec.content_type, "x/y");
  EXPECT_EQ(job.spec.payload, "p");
  EXPECT_EQ(job.result, "p");
  EXPECT_THAT(job.spec.tags, ElementsAre("x", "y"));
  EXPECT_THAT(job.spec.headers, ElementsAre(Header{"h", "v"}));
  EXPECT_THAT(job.attempts,
              ElementsAre(AttemptRecord{1, "n@2", 2, 3, AttemptEnd::timed_out, "tc", "te", 4, 5}));
}

TEST(DecodeReply, a_job_that_is_not_there_or_whose_result_is_gone_has_no_job) {
  const JobView none = view_of(js(R"({"id": "a", "not_found": true})"));
  EXPECT_TRUE(none.is_not_found);
  EXPECT_FALSE(none.job);
  const JobView gone =
      view_of(js(R"({"id": "a", "state": "failed", "finished_ms": 9, "result_gone": true})"));
  EXPECT_TRUE(gone.is_result_gone);
  EXPECT_FALSE(gone.job);
  EXPECT_EQ(gone.state, JobState::failed);
  EXPECT_EQ(gone.finished_ms, 9);
}

TEST(DecodeReply, every_key_around_the_jobs_lands_in_its_member) {
  const Json result =
      js(R"({"id": "x", "status": "conflict", "state": "queued", "code": "conflict", )"
         R"("field": "id", "message": "other content"})");
  const Json body = {{"results", {result}},
                     {"jobs", {js(R"({"id": "j"})")}},
                     {"more", {"m"}},
                     {"unfinished", {"u"}},
                     {"durable", "always"},
                     {"open", true}};
  const auto submitted = body_of<Submitted>("submitted", body);
  ASSERT_EQ(submitted.results.size(), 1U);
  EXPECT_EQ(submitted.results[0].id, "x");
  EXPECT_EQ(submitted.results[0].status, SubmitStatus::conflict);
  EXPECT_EQ(submitted.results[0].state, JobState::queued);
  EXPECT_EQ(submitted.results[0].error->code, ErrorCode::conflict);
  EXPECT_EQ(submitted.results[0].error->where, "id");
  EXPECT_EQ(submitted.results[0].error->detail, "other content");
  EXPECT_EQ(submitted.durable, Durability::always);
  EXPECT_TRUE(submitted.open);
  const auto waited = body_of<Waited>("waited", body);
  EXPECT_EQ(waited.results.at(0).id, "x");
  EXPECT_EQ(waited.jobs.at(0).id, JobId("j"));
  EXPECT_THAT(waited.more, ElementsAre(JobId("m")));
  EXPECT_THAT(waited.unfinished, ElementsAre(JobId("u")));
  EXPECT_EQ(waited.durable, Durability::always);
  EXPECT_EQ(body_of<Waited>("waited", Json::object()).durable, std::nullopt);
  EXPECT_THAT(body_of<Finished>("finished", body).more, ElementsAre(JobId("m")));
  const auto listed =
      body_of<Listed>("listed", js(R"({"jobs": [{"id": "j"}], "cursor": "c", "batch": 7})"));
  EXPECT_EQ(listed.jobs.at(0).id, JobId("j"));
  EXPECT_EQ(listed.cursor, "c");
  EXPECT_EQ(listed.batch, 7U);
}

TEST(DecodeReply, what_was_done_keeps_the_word_it_was_answered_with) {
  const Json targets = js(R"({"results": [{"id": "a", "status": "too_late", "state": "failed"}], )"
                          R"("cursor": "c"})");
  for (const char* op : {"cancelled", "retried", "deleted"}) {
    const auto done = body_of<TargetsDone>(op, targets);
    EXPECT_EQ(done.op, op);
    EXPECT_EQ(done.cursor, "c");
    EXPECT_EQ(done.results.at(0).id, JobId("a"));
    EXPECT_EQ(done.results.at(0).status, "too_late");
    EXPECT_EQ(done.results.at(0).state, JobState::failed);
  }
  for (const char* op : {"paused", "resumed", "purged", "asked"}) {
    EXPECT_EQ(body_of<Done>(op, js(R"({"count": 3})")).op, op);
    EXPECT_EQ(body_of<Done>(op, js(R"({"count": 3})")).count, 3U);
  }
}

TEST(DecodeReply, every_figure_of_a_queue_and_of_a_node_lands_in_its_member) {
  const QueueInfo queue =
      body_of<QueuesInfo>(
          "queues",
          js(R"({"queues": [{"queue": "q", "paused": true, "pending": 1, "queued": 2, )"
             R"("running": 3, "completed": 4, "failed": 5, "cancelled": 6, "submitted": 7, )"
             R"("retried": 8, "lost": 9, "oldest_queued_ms": 10, "completed_per_s": 1.5}]})"))
          .queues.at(0);
  EXPECT_EQ(queue.queue, "q");
  EXPECT_TRUE(queue.paused);
  EXPECT_THAT((std::vector{queue.pending,
                           queue.queued,
                           queue.running,
                           queue.completed,
                           queue.failed,
                           queue.cancelled,
                           queue.submitted,
                           queue.retried,
                           queue.lost}),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(queue.oldest_queued_ms, 10);
  EXPECT_EQ(queue.completed_per_s, 1.5);
  const NodeInfo node =
      body_of<WorkersInfo>(
          "workers",
          js(R"({"workers": [{"node": "n@1", "concurrency": 1, "running": 2, "free": 3, )"
             R"("tasks": ["t"], "queues": ["q"], "labels": {"zone": "a"}, "draining": true, )"
             R"("version": "9", "last_seen_ms": 4, "completed": 5, "failed": 6, )"
             R"("isolates": [{"task": "t", "total": 1, "busy": 2, "waiting": 3, "jobs": 4, )"
             R"("crashes": 5, "recycles": 6, "busy_ms": 7}]}]})"))
          .workers.at(0);
  EXPECT_EQ(node.node, "n@1");
  EXPECT_EQ(node.concurrency, 1U);
  EXPECT_EQ(node.running, 2U);
  EXPECT_EQ(node.free, 3U);
  EXPECT_THAT(node.tasks, ElementsAre("t"));
  EXPECT_THAT(node.queues, ElementsAre("q"));
  EXPECT_THAT(node.labels, ElementsAre(Header{"zone", "a"}));
  EXPECT_TRUE(node.draining);
  EXPECT_EQ(node.version, "9");
  EXPECT_EQ(node.last_seen_ms, 4);
  EXPECT_EQ(node.completed, 5U);
  EXPECT_EQ(node.failed, 6U);
  EXPECT_THAT(node.isolates, ElementsAre(IsolateFigures{"t", 1, 2, 3, 4, 5, 6, 7}));
}

TEST(DecodeReply, the_broker_s_own_figures_and_errors_land_in_their_members) {
  const auto stats =
      body_of<StatsInfo>("stats",
                         js(R"({"stats": {"b": 2, "version": "1", "later": {"x": 1}, "a": 1}})"));
  EXPECT_THAT(stats.numbers, ElementsAre(std::pair("b", 2U), std::pair("a", 1U)));
  EXPECT_THAT(stats.texts, ElementsAre(std::pair("version", "1")));
  const auto pong =
      body_of<Pong>("pong",
                    js(R"({"version": "9", "protocol": 1, "epoch": 7, "durable": "memory", )"
                       R"("store": "busy", "insecure": true})"));
  EXPECT_EQ(pong.version, "9");
  EXPECT_EQ(pong.protocol, 1U);
  EXPECT_EQ(pong.epoch, 7U);
  EXPECT_EQ(pong.durable, Durability::memory);
  EXPECT_EQ(pong.store, "busy");
  EXPECT_TRUE(pong.insecure);
  const auto error = body_of<ErrorReply>(
      "error",
      js(R"({"code": "queue_full", "field": "queue", "message": "m", "retryable": true, )"
         R"("retry_after_ms": 0})"));
  EXPECT_EQ(error.error.code, ErrorCode::queue_full);
  EXPECT_EQ(error.error.where, "queue");
  EXPECT_EQ(error.error.detail, "m");
  EXPECT_TRUE(error.retryable);
  EXPECT_EQ(error.retry_after_ms, 0);
}

// A client must read the answers of a broker that is newer than itself.
TEST(DecodeReply, a_code_and_a_key_of_a_later_version_are_no_reason_to_refuse) {
  const auto error = body_of<ErrorReply>("error", js(R"({"code": "too_hot", "hint": [1, [2]]})"));
  EXPECT_EQ(error.error.code, ErrorCode::internal);
  EXPECT_FALSE(error.retryable);
  EXPECT_EQ(error.retry_after_ms, std::nullopt);
  EXPECT_TRUE(view_of(js(R"({"id": "a", "mood": "good"})")).job);
}

Json many(std::size_t count, const Json& value) {
  return Json(std::vector<Json>(count, value));
}

struct Wrong {
  const char* op;
  Json body;
  const char* where;
  ErrorCode code = ErrorCode::bad_field;
};

TEST(DecodeReply, a_wrong_value_is_refused_under_its_field) {
  constexpr auto kLarge = ErrorCode::too_large;
  const auto job = [](const Json& extra) {
    Json view = js(R"({"id": "a"})");
    view.update(extra);
    return Json{{"jobs", Json::array({view})}};
  };
  const std::string long_text(1025, 'x');
  const std::vector<Wrong> all = {
      {"submitted", {{"results", many(1001, Json::object())}}, "results", kLarge},
      {"submitted", {{"results", {{{"id", std::string(65, 'x')}}}}}, "results[0].id", kLarge},
      {"submitted", js(R"({"results": [{"status": "lost"}]})"), "results[0].status"},
      {"submitted", js(R"({"results": [{"state": "lost"}]})"), "results[0].state"},
      {"submitted", js(R"({"durable": "never"})"), "durable"},
      {"submitted", js(R"({"open": 1})"), "open"},
      {"jobs", {{"jobs", many(1001, js(R"({"id": "a"})"))}}, "jobs", kLarge},
      {"jobs", js(R"({"jobs": [{}]})"), "jobs[0].id", ErrorCode::malformed},
      {"jobs", {{"more", many(1001, "a")}}, "more", kLarge},
      {"jobs", job(js(R"({"state": "lost"})")), "jobs[0].state"},
      {"jobs", job(js(R"({"priority": "urgent"})")), "jobs[0].priority"},
      {"jobs", job({{"tags", many(17, "x")}}), "jobs[0].tags", kLarge},
      {"jobs", job({{"tags", {std::string(129, 'x')}}}), "jobs[0].tags[0]", kLarge},
      {"jobs", job({{"headers", {{"h", long_text}}}}), "jobs[0].headers.h", kLarge},
      {"jobs", job({{"node", std::string(97, 'x')}}), "jobs[0].node", kLarge},
      {"jobs", job({{"content_type", std::string(129, 'x')}}), "jobs[0].content_type", kLarge},
      {"jobs", job(js(R"({"payload": "text"})")), "jobs[0].payload"},
      {"jobs", job({{"result", bin(std::string((1 << 20) + 1, 'x'))}}), "jobs[0].result", kLarge},
      {"jobs", job({{"attempts", many(11, Json::object())}}), "jobs[0].attempts", kLarge},
      {"jobs", job(js(R"({"attempts": [{"outcome": "won"}]})")), "jobs[0].attempts[0].outcome"},
      {"waited", js(R"({"unfinished": ["a/b"]})"), "unfinished[0]"},
      {"cancelled", js(R"({"results": [{"status": "too late"}]})"), "results[0].status"},
      {"listed", js(R"({"batch": -1})"), "batch"},
      {"queues", js(R"({"queues": [{"queue": ""}]})"), "queues[0].queue"},
      {"queues", js(R"({"queues": [{"completed_per_s": -0.5}]})"), "queues[0].completed_per_s"},
      {"workers", js(R"({"workers": [{"tasks": ["a b"]}]})"), "workers[0].tasks[0]"},
      {"workers",
       js(R"({"workers": [{"isolates": [{"busy": 1}]}]})"),
       "workers[0].isolates[0].task",
       ErrorCode::malformed},
      {"workers",
       {{"workers", {{{"version", std::string(65, 'x')}}}}},
       "workers[0].version",
       kLarge},
      {"stats", js(R"({"stats": 1})"), "stats"},
      {"stats", js(R"({"stats": {"lag": -1}})"), "stats.lag"},
      {"purged", js(R"({"count": "3"})"), "count"},
      {"pong", js(R"({"epoch": -1})"), "epoch"},
      {"error", {{"code", std::string(65, 'x')}}, "code", kLarge},
      {"error", js(R"({"retry_after_ms": -1})"), "retry_after_ms"}};
  for (const Wrong& wrong : all) {
    const auto reply = decode(wrong.op, wrong.body);
    ASSERT_FALSE(reply) << wrong.op << ' ' << wrong.where;
    EXPECT_EQ(reply.error().where, wrong.where);
    EXPECT_EQ(reply.error().code, wrong.code) << wrong.where;
  }
}

}  // namespace
}  // namespace sluice::common_decode_reply_test
