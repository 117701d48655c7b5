// Every message, there and back, and every way in which a frame can be wrong.
#include <array>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "common/protocol/msgpack.h"

namespace sluice::common_codec_test {
namespace {

JobSpec full_spec() {
  JobSpec spec;
  spec.id = JobId("job:1");
  spec.task = "resize";
  spec.queue = "images";
  spec.payload = std::string("\0\xff payload", 10);
  spec.content_type = "application/json";
  spec.priority = Priority::critical;
  spec.delay_ms = 1500;
  spec.expires_at_ms = 1'900'000'000'000;
  spec.timeout_ms = 0;
  spec.retry = {.max_retries = 7, .base_ms = 300, .factor = 1.5, .cap_ms = 9000, .jitter = 0.5};
  spec.keep_result_ms = 60'000;
  spec.keep_payload = true;
  spec.tags = {"AAPL", "läng"};
  spec.headers = {{"traceparent", "00-1"}};
  spec.content_hash = content_hash_of(spec);
  return spec;
}

Job full_job() {
  Job job;
  job.spec = full_spec();
  job.state = JobState::completed;
  job.life = 2;
  job.retry_count = 1;
  job.lost_count = 1;
  job.attempt = 4;
  job.epoch = 1'700'000'000;
  job.revision = 9;
  job.node = "n1@9f2c41aa";
  job.created_ms = 1'700'000'000'001;
  job.due_ms = 1'700'000'000'002;
  job.started_ms = 1'700'000'000'003;
  job.finished_ms = 1'700'000'000'004;
  job.error_code = "http_503";
  job.error = "busy";
  job.progress_percent = 50;
  job.progress_message = "half";
  job.checkpoint = "cp";
  job.result = std::string("\x93\0\1", 3);
  job.attempts = {{.attempt = 1,
                   .node = "n1@9f2c41aa",
                   .started_ms = 5,
                   .ended_ms = 6,
                   .end = AttemptEnd::lost,
                   .error_code = "lost",
                   .error = "gone",
                   .cpu_ms = 7,
                   .rss_bytes_max = 8}};
  return job;
}

const Targets kById{.ids = {JobId("a"), JobId("b")}, .filter = {}};
const Targets kByFilter{.ids = {},
                        .filter = Filter{.state = JobState::failed,
                                         .queue = "q",
                                         .task = "t",
                                         .tag = "x",
                                         .error_code = "e",
                                         .cursor = "c",
                                         .limit = 7}};

std::vector<Request> sample_requests() {
  const Req req = make_req(7);
  return {{req, Submit{.jobs = {full_spec()}, .wait = true}},
          {req, Get{{JobId("a")}}},
          {req, Wait{{JobId("a")}, 5}},
          {req, Cancel{kById, "no longer wanted"}},
          {req, Retry{kByFilter}},
          {req, Delete{kById}},
          {req, List{*kByFilter.filter}},
          {req, Logs{JobId("a"), 17}},
          {req, Queues{}},
          {req, Workers{}},
          {req, Stats{}},
          {req, Pause{"q"}},
          {req, Resume{"q"}},
          {req, Purge{"q"}},
          {req, Drain{"n1@ab"}},
          {req, SetConcurrency{"n1", 8}},
          {req, Ping{}}};
}

std::vector<Reply> sample_replies() {
  const Req req = make_req(300);
  const SubmitResult rejected{"x",
                              SubmitStatus::rejected,
                              {},
                              Error{ErrorCode::bad_field, "jobs[0].task", "no"}};
  const SubmitResult duplicate{"y", SubmitStatus::duplicate, JobState::running, {}};
  const JobView job{.id = JobId("job:1"), .job = full_job()};
  const JobView none{.id = JobId("z"), .job = {}, .is_not_found = true};
  const JobView gone{.id = JobId("g"),
                     .job = {},
                     .is_result_gone = true,
                     .state = JobState::failed,
                     .finished_ms = 12};
  return {{req, Submitted{{rejected, duplicate}, Durability::always, true}},
          {req, Jobs{{job, none, gone}, {JobId("m")}}},
          {req, Finished{{job}, {}}},
          {req, Waited{{duplicate}, {job}, {JobId("m")}, {JobId("u")}, Durability::memory}},
          {req, TargetsDone{"cancelled", {{JobId("a"), "too_late", JobState::failed}}, "next"}},
          {req, Listed{{job}, "next", 77}},
          {req, LogPage{JobId("a"), JobState::failed, {{6, 2, 12, "bytes"}}, 11, 15}},
          {req, QueuesInfo{{{.queue = "q", .paused = true, .completed_per_s = 1.5}}}},
          {req,
           WorkersInfo{{{.node = "n@1",
                         .concurrency = 4,
                         .tasks = {"t"},
                         .queues = {"q"},
                         .labels = {{"zone", "a"}},
                         .version = "1",
                         .isolates = {{"t", 4, 3, 2, 9, 1, 5, 700}}}}}},
          {req, StatsInfo{{{"accepted", 5}}, {{"version", "1"}}}},
          {req, Done{"purged", 3}},
          {req, Pong{"0.1.0", 1, 9, Durability::everysec, "ok", true}},
          {req, ErrorReply{{ErrorCode::retry_later, "", "full"}, true, 1000}}};
}

std::vector<WorkerMessage> sample_worker_messages() {
  const Fence fence{1'700'000'000, 2};
  Status status{.node = "n1@ab",
                .replaces = "n1@aa",
                .seq = 3,
                .concurrency = 8,
                .tasks = {"t"},
                .queues = {"q"},
                .labels = {{"zone", "a"}},
                .draining = true,
                .version = "0.1.0",
                .isolates = {{"t", 4, 3, 2, 9, 1, 5, 700}},
                .held = {{JobId("a"), fence, Phase::finished}},
                .seen = {5, 6}};
  AttemptResult done{.id = JobId("a"),
                     .fence = fence,
                     .outcome = Outcome::completed,
                     .result = "bytes",
                     .error_code = {},
                     .error = {},
                     .retry_after_ms = {},
                     .usage = {1, 2}};
  AttemptResult failed{.id = JobId("b"),
                       .fence = fence,
                       .outcome = Outcome::failed,
                       .result = {},
                       .error_code = "http_503",
                       .error = "busy",
                       .retryable = false,
                       .retry_after_ms = 5,
                       .usage = {}};
  return {status,
          Results{"n1@ab", {done, failed}},
          Progress{"n1@ab", JobId("a"), fence, 40, "so far", "cp", 3},
          Log{"n1@ab", JobId("a"), fence, "bytes"},
          Goodbye{"n1@ab"}};
}

RunJob run_job_of(const Job& job) {
  return {.id = job.id(),
          .fence = job.fence(),
          .task = job.spec.task,
          .queue = job.spec.queue,
          .payload = job.spec.payload,
          .content_type = job.spec.content_type,
          .timeout_ms = job.spec.timeout_ms,
          .life = job.life,
          .retry_count = job.retry_count,
          .max_retries = job.spec.retry.max_retries,
          .headers = job.spec.headers,
          .checkpoint = job.checkpoint};
}

std::vector<BrokerMessage> sample_broker_messages() {
  const Seen number{1'700'000'000, 300};
  const AttemptRef ref{JobId("a"), {4, 5}};
  return {{number, Welcome{}},
          {number, Welcome{.repeat = true}},
          {number, Run{{run_job_of(full_job())}}},
          {number, CancelAttempts{{ref}}},
          {number, DropAttempts{{ref}}},
          {number, Ack{{{JobId("a"), {4, 5}, true, 0}, {JobId("b"), {4, 5}, false, 2}}}},
          {number, DrainWish{}},
          {number, ConcurrencyWish{9}},
          {{}, Refused{{ErrorCode::unsupported_version, "protocol", "upgrade the worker"}}}};
}

// Every sample, with the function that reads it (whether it went well).
struct Sample {
  std::string frame;
  std::function<bool(std::string_view)> decode;
};

std::vector<Sample> all_samples() {
  std::vector<Sample> samples;
  for (const auto& message : sample_requests())
    samples.push_back({encode_request(message), [](std::string_view f) {
                         return decode_request(f).has_value();
                       }});
  for (const auto& message : sample_replies())
    samples.push_back({encode_reply(message), [](std::string_view f) {
                         return decode_reply(f).has_value();
                       }});
  for (const auto& message : sample_worker_messages())
    samples.push_back({encode_worker_message(message), [](std::string_view f) {
                         return decode_worker_message(f).has_value();
                       }});
  for (const auto& message : sample_broker_messages())
    samples.push_back({encode_broker_message(message), [](std::string_view f) {
                         return decode_broker_message(f).has_value();
                       }});
  return samples;
}

// What decodes and encodes to the same bytes has lost nothing that the encoder writes.
TEST(Codec, every_request_comes_back) {
  for (const Request& request : sample_requests()) {
    const std::string frame = encode_request(request);
    const auto back = decode_request(frame);
    ASSERT_TRUE(back) << back.error().error.where << ' ' << back.error().error.detail;
    EXPECT_EQ(back->body.index(), request.body.index());
    EXPECT_EQ(encode_request(*back), frame);
  }
}

TEST(Codec, every_reply_comes_back) {
  for (const Reply& reply : sample_replies()) {
    const std::string frame = encode_reply(reply);
    const auto back = decode_reply(frame);
    ASSERT_TRUE(back) << back.error().where << ' ' << back.error().detail;
    EXPECT_EQ(back->body.index(), reply.body.index());
    EXPECT_EQ(encode_reply(*back), frame);
  }
}

TEST(Codec, every_worker_message_comes_back) {
  for (const WorkerMessage& message : sample_worker_messages()) {
    const std::string frame = encode_worker_message(message);
    const auto back = decode_worker_message(frame);
    ASSERT_TRUE(back) << back.error().where << ' ' << back.error().detail;
    EXPECT_EQ(back->index(), message.index());
    EXPECT_EQ(encode_worker_message(*back), frame);
  }
}

TEST(Codec, every_broker_message_comes_back) {
  for (const BrokerMessage& message : sample_broker_messages()) {
    const std::string frame = encode_broker_message(message);
    const auto back = decode_broker_message(frame);
    ASSERT_TRUE(back) << back.error().where << ' ' << back.error().detail;
    EXPECT_EQ(back->number, message.number);
    EXPECT_EQ(back->body.index(), message.body.index());
    EXPECT_EQ(encode_broker_message(*back), frame);
  }
}

TEST(Codec, events_come_back_with_their_topic_and_sequence) {
  const JobEvent job{"started", JobId("a"), "q", "t", "n@1", 2, 1, 50, "e", 12};
  EXPECT_EQ(event_topic(job), "job.started.q");
  const LogEvent log{JobId("a"), {6, 2, 12, "bytes"}};
  EXPECT_EQ(event_topic(NodeEvent{"dead", "n@1", 3}), "node.dead");
  EXPECT_EQ(event_topic(log), "log.a");
  for (const EventBody& event :
       {EventBody(job), EventBody(NodeEvent{"dead", "n@1", 3}), EventBody(log)}) {
    const auto back = decode_event(encode_event(event, 44));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->sequence, 44U);
    EXPECT_EQ(encode_event(back->event, 44), encode_event(event, 44));
  }
}

TEST(Codec, a_run_from_jobs_has_the_bytes_of_the_message) {
  const Job job = full_job();
  const Job* jobs[] = {&job, &job};
  const sluice::Run run{{run_job_of(job), run_job_of(job)}};
  const std::string frame = encode_run({3, 4}, jobs);
  EXPECT_EQ(frame, encode_broker_message({{3, 4}, run}));
  EXPECT_LE(frame.size(), 2 * run_bytes_bound(job));
}

TEST(Codec, the_bound_of_a_job_view_holds) {
  const Job job = full_job();
  const Reply reply{make_req(1), Jobs{{{.id = job.id(), .job = job}}, {}}};
  EXPECT_LE(encode_reply(reply).size(), job_view_bytes_bound(job));
}

// ---------------------------------------------------------------- malformed input

TEST(Codec, no_truncation_is_accepted) {
  for (const Sample& sample : all_samples()) {
    ASSERT_TRUE(sample.decode(sample.frame));
    for (std::size_t size = 0; size < sample.frame.size(); ++size) {
      const std::vector<char> cut(sample.frame.begin(),
                                  sample.frame.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_FALSE(sample.decode({cut.data(), cut.size()}));
    }
  }
}

TEST(Codec, no_change_of_one_byte_crashes) {
  for (Sample& sample : all_samples()) {
    for (char& byte : sample.frame) {
      const char original = byte;
      for (const int change : {1, 8, 32, 128, 255}) {
        byte = static_cast<char>(original ^ change);
        (void)sample.decode(sample.frame);
      }
      byte = original;
    }
  }
}

// A submit of one job, its fields written by hand.
class Frame {
 public:
  using Write = std::function<void(msgpack::Writer&)>;

  static std::string job(const std::string& key, const Write& value) {
    std::string out;
    msgpack::Writer writer(out);
    writer.map(3);
    writer.str("op"), writer.str("submit");
    writer.str("req"), writer.integer(1);
    writer.str("jobs"), writer.array(1), writer.map(3);
    writer.str(key == "id" ? "x-id" : "id"), writer.str("a");
    writer.str(key == "task" ? "x-task" : "task"), writer.str("t");
    writer.str(key), value(writer);
    return out;
  }
};

// The error that the one job of the frame was refused with, or nothing.
std::optional<Error> refusal(const std::string& frame) {
  const auto request = decode_request(frame);
  if (!request) return request.error().error;
  const auto& entry = std::get<Submit>(request->body).jobs.at(0);
  if (const auto* rejected = std::get_if<RejectedJob>(&entry)) return rejected->error;
  return std::nullopt;
}

Frame::Write text(std::size_t size, char c = 'a') {
  return [=](msgpack::Writer& w) {
    w.str(std::string(size, c));
  };
}

Frame::Write integer(std::int64_t value) {
  return [=](msgpack::Writer& w) {
    w.integer(value);
  };
}

struct SpoiledResult {
  std::vector<AttemptResult> results;
  std::string wrong_field;
};

// A result of three attempts, the second of which `spoil` has made wrong, as the broker reads it.
SpoiledResult spoiled_result(const std::function<void(AttemptResult&)>& spoil) {
  Results message{.node = "n1@ab", .results = std::vector<AttemptResult>(3)};
  for (std::size_t i = 0; i < 3; ++i) {
    message.results[i].id = JobId("job-" + std::to_string(i));
    message.results[i].fence = {7, 1};
  }
  spoil(message.results[1]);
  std::optional<Error> wrong_entry;
  const auto back = decode_worker_message(encode_worker_message(message), &wrong_entry);
  EXPECT_TRUE(back) << back.error().where;
  if (!back || !wrong_entry) return {};
  return {std::get<Results>(*back).results, wrong_entry->where};
}

TEST(Codec, a_wrong_entry_of_a_result_is_a_failed_attempt_and_holds_up_no_other) {
  const SpoiledResult read = spoiled_result([](AttemptResult& result) {
    result.outcome = Outcome::failed;
    result.error_code = std::string(65, 'x');
    result.retryable = false;
  });
  ASSERT_EQ(read.results.size(), 3u);
  EXPECT_EQ(read.results[1].id, JobId("job-1"));
  EXPECT_EQ(read.results[1].fence, (Fence{7, 1}));
  EXPECT_EQ(read.results[1].outcome, Outcome::failed);
  EXPECT_EQ(read.results[1].error_code, "bad_result");
  EXPECT_TRUE(read.results[1].retryable);
  EXPECT_EQ(read.results[2].outcome, Outcome::completed);
  EXPECT_EQ(read.results[2].id, JobId("job-2"));
  EXPECT_EQ(read.wrong_field, "results[1].error.code");
}

TEST(Codec, a_result_over_its_bound_fails_its_attempt_for_good) {
  const SpoiledResult read = spoiled_result(
      [](AttemptResult& result) { result.result = std::string(kResultBytesMax + 1, 'x'); });
  ASSERT_EQ(read.results.size(), 3u);
  EXPECT_EQ(read.results[1].error_code, "result_too_large");
  EXPECT_FALSE(read.results[1].retryable);
  EXPECT_TRUE(read.results[1].result.empty());
  EXPECT_EQ(read.wrong_field, "results[1].result");
}

TEST(Codec, an_entry_of_a_result_that_names_no_attempt_is_left_out) {
  const SpoiledResult read =
      spoiled_result([](AttemptResult& result) { result.fence.attempt = 0; });
  ASSERT_EQ(read.results.size(), 2u);
  EXPECT_EQ(read.results[1].id, JobId("job-2"));
  EXPECT_EQ(read.wrong_field, "results[1].attempt");
}

struct Bound {
  std::string key;
  Frame::Write at;
  Frame::Write over;
  ErrorCode code;
};

TEST(Codec, every_field_of_a_job_is_taken_at_its_bound_and_refused_over_it) {
  const auto bytes = [](std::size_t size) -> Frame::Write {
    return [=](msgpack::Writer& w) {
      w.bin(std::string(size, 'x'));
    };
  };
  const auto tags = [](std::size_t count, std::size_t size) -> Frame::Write {
    return [=](msgpack::Writer& w) {
      w.array(count);
      for (std::size_t i = 0; i < count; ++i)
        w.str(std::string(size, 'x'));
    };
  };
  const auto headers = [](std::size_t count, std::size_t size) -> Frame::Write {
    return [=](msgpack::Writer& w) {
      w.map(count);
      for (std::size_t i = 0; i < count; ++i)
        w.str("h" + std::to_string(i)), w.str(std::string(size, 'x'));
    };
  };
  const std::vector<Bound> bounds = {
      {"id", text(64), text(65), ErrorCode::bad_field},
      {"id", text(1), text(0), ErrorCode::bad_field},
      {"id", text(1, ':'), text(1, '/'), ErrorCode::bad_field},
      {"task", text(64), text(65), ErrorCode::bad_field},
      {"task", text(1, '.'), text(1, ':'), ErrorCode::bad_field},
      {"queue", text(64), text(65), ErrorCode::bad_field},
      {"payload", bytes(kPayloadBytesMax), bytes(kPayloadBytesMax + 1), ErrorCode::too_large},
      {"payload", bytes(0), text(1), ErrorCode::bad_field},
      {"content_type", text(128), text(129), ErrorCode::too_large},
      {"content_type", text(1), text(0), ErrorCode::bad_field},
      {"delay_ms", integer(kTenYearsMs), integer(kTenYearsMs + 1), ErrorCode::bad_field},
      {"delay_ms", integer(0), integer(-1), ErrorCode::bad_field},
      {"run_at_ms", integer(0), integer(-1), ErrorCode::bad_field},
      {"expires_at_ms", integer(1), integer(INT64_MAX), ErrorCode::bad_field},
      {"timeout_ms", integer(0), integer(-1), ErrorCode::bad_field},
      {"timeout_ms", integer(kTenYearsMs), integer(kTenYearsMs + 1), ErrorCode::bad_field},
      {"max_retries", integer(1000), integer(1001), ErrorCode::bad_field},
      {"keep_result_ms", integer(kTenYearsMs), integer(kTenYearsMs + 1), ErrorCode::bad_field},
      {"tags", tags(16, 128), tags(17, 1), ErrorCode::too_large},
      {"tags", tags(1, 1), tags(1, 129), ErrorCode::too_large},
      {"headers", headers(16, 1024), headers(17, 1), ErrorCode::too_large},
      {"headers", headers(1, 0), headers(1, 1025), ErrorCode::too_large},
  };
  for (const Bound& bound : bounds) {
    const auto at = refusal(Frame::job(bound.key, bound.at));
    if (bound.key != "id" && bound.key != "task")
      EXPECT_FALSE(at) << bound.key << ": " << at->detail;
    else
      EXPECT_FALSE(at) << bound.key;
    const auto over = refusal(Frame::job(bound.key, bound.over));
    ASSERT_TRUE(over) << bound.key;
    EXPECT_EQ(over->code, bound.code) << bound.key << ": " << over->detail;
    EXPECT_EQ(over->where.substr(0, 8 + bound.key.size()), "jobs[0]." + bound.key);
  }
}

TEST(Codec, reserved_keys_of_a_job_are_refused_by_name) {
  for (const char* key :
       {"unique", "deadline_ms", "on_failed", "requires", "group", "after", "limits", "tenant"}) {
    const auto error = refusal(Frame::job(key, integer(1)));
    ASSERT_TRUE(error) << key;
    EXPECT_EQ(error->code, ErrorCode::bad_field);
    EXPECT_EQ(error->where, std::string("jobs[0].") + key);
  }
  EXPECT_FALSE(refusal(Frame::job("something_new", integer(1))));
}

TEST(Codec, a_wrong_job_is_refused_alone) {
  std::string frame;
  msgpack::Writer w(frame);
  w.map(3);
  w.str("op"), w.str("submit");
  w.str("req"), w.str("r");
  w.str("jobs"), w.array(3);
  w.map(2), w.str("id"), w.str("a"), w.str("task"), w.str("t");
  w.map(3), w.str("priority"), w.str("urgent"), w.str("id"), w.str("b"), w.str("task"), w.str("t");
  w.map(2), w.str("id"), w.str("c"), w.str("task"), w.str("t");
  const auto request = decode_request(frame);
  ASSERT_TRUE(request);
  const auto& jobs = std::get<Submit>(request->body).jobs;
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_TRUE(std::holds_alternative<JobSpec>(jobs[0]));
  EXPECT_EQ(std::get<RejectedJob>(jobs[1]).id, "b");
  EXPECT_EQ(std::get<RejectedJob>(jobs[1]).error.where, "jobs[1].priority");
  EXPECT_EQ(std::get<JobSpec>(jobs[2]).id, JobId("c"));
}

TEST(Codec, another_protocol_version_is_told_which_side_to_upgrade) {
  Status status;
  status.node = "n@1";
  status.protocol = 2;
  const auto back = decode_worker_message(encode_worker_message(status));
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code, ErrorCode::unsupported_version);
  EXPECT_NE(back.error().detail.find("upgrade the receiver"), std::string::npos);
}

TEST(Codec, a_refused_request_still_names_its_req) {
  std::string frame;
  msgpack::Writer w(frame);
  w.map(2), w.str("req"), w.integer(9), w.str("op"), w.str("fly");
  const auto request = decode_request(frame);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().error.code, ErrorCode::unknown_op);
  EXPECT_EQ(req_number(request.error().req), 9U);
  EXPECT_EQ(decode_request("garbage").error().req, "\xc0");
}

TEST(Codec, a_repeated_key_and_bytes_behind_the_map_are_malformed) {
  std::string frame;
  msgpack::Writer w(frame);
  w.map(3), w.str("op"), w.str("ping"), w.str("req"), w.integer(1), w.str("req"), w.integer(2);
  EXPECT_EQ(decode_request(frame).error().error.code, ErrorCode::malformed);
  std::string ping = encode_request({make_req(1), Ping{}});
  EXPECT_EQ(decode_request(ping + '\xc0').error().error.code, ErrorCode::malformed);
}

}  // namespace
}  // namespace sluice::common_codec_test
