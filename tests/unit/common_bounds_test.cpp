// Every bounded field of every message: taken at its bound, refused beyond it, by its name. Our
// encoders check nothing, so they write both.
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "common/protocol/msgpack.h"

namespace sluice::common_bounds_test {
namespace {

// What refuses the frame: the message itself, or the first job of a submit.
std::optional<Error> refusal(const Request& request) {
  const auto back = decode_request(encode_request(request));
  if (!back) return back.error().error;
  if (const auto* submit = std::get_if<Submit>(&back->body))
    for (const auto& job : submit->jobs)
      if (const auto* rejected = std::get_if<RejectedJob>(&job)) return rejected->error;
  return std::nullopt;
}

template <typename T>
std::optional<Error> error_of(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error();
}

// Or the first wrong entry of a result.
std::optional<Error> refusal(const WorkerMessage& message) {
  std::optional<Error> wrong_entry;
  const auto back = decode_worker_message(encode_worker_message(message), &wrong_entry);
  return back ? wrong_entry : back.error();
}

std::optional<Error> refusal(const BrokerMessage& message) {
  return error_of(decode_broker_message(encode_broker_message(message)));
}

// Changes of one base message, all about one field.
template <typename Message>
class Bounds {
 public:
  using Change = std::function<void(Message&)>;

  explicit Bounds(Message base) : base_(std::move(base)) {}

  void taken(const char* what, const Change& change) const {
    Message message = base_;
    change(message);
    const auto error = refusal(message);
    EXPECT_FALSE(error) << what << ": " << error->where << ' ' << error->detail;
  }

  void refused(const std::string& field, ErrorCode code, const Change& change) const {
    Message message = base_;
    change(message);
    const auto error = refusal(message);
    ASSERT_TRUE(error) << field;
    EXPECT_EQ(error->where, field) << error->detail;
    EXPECT_EQ(to_string(error->code), to_string(code)) << field << ' ' << error->detail;
  }

 private:
  Message base_;
};

constexpr auto kBad = ErrorCode::bad_field;
constexpr auto kMissing = ErrorCode::malformed;
constexpr auto kLarge = ErrorCode::too_large;

std::string text(std::size_t size) {
  return std::string(size, 'x');
}

std::string node_id(std::size_t size) {
  return text(64) + "@" + text(size - 65);
}

std::vector<JobId> ids(std::size_t count) {
  std::vector<JobId> list;
  for (std::size_t i = 0; i < count; ++i)
    list.emplace_back("job-" + std::to_string(i));
  return list;
}

std::vector<Header> headers(std::size_t count) {
  std::vector<Header> list;
  for (std::size_t i = 0; i < count; ++i)
    list.push_back({"h" + std::to_string(i), "v"});
  return list;
}

// ---------------------------------------------------------------- a job

// The fields of one job in a submit.
class JobBounds {
 public:
  using Change = std::function<void(JobSpec&)>;

  void taken(const char* what, const Change& change) const {
    bounds_.taken(what, [&](Request& request) { change(job(request)); });
  }

  void refused(const std::string& field, ErrorCode code, const Change& change) const {
    bounds_.refused("jobs[0]." + field, code, [&](Request& request) { change(job(request)); });
  }

 private:
  static JobSpec& job(Request& request) {
    return std::get<JobSpec>(std::get<Submit>(request.body).jobs[0]);
  }

  static Request base() {
    JobSpec spec;
    spec.id = JobId("a");
    spec.task = "t";
    return {make_req(1), Submit{{spec}, false}};
  }

  Bounds<Request> bounds_{base()};
};

TEST(Bounds, of_the_texts_of_a_job) {
  const JobBounds job;
  job.taken("task", [](JobSpec& spec) { spec.task = text(64); });
  job.refused("task", kBad, [](JobSpec& spec) { spec.task = text(65); });
  job.refused("task", kBad, [](JobSpec& spec) { spec.task = ""; });
  job.taken("queue", [](JobSpec& spec) { spec.queue = text(64); });
  job.refused("queue", kBad, [](JobSpec& spec) { spec.queue = text(65); });
  job.refused("queue", kBad, [](JobSpec& spec) { spec.queue = ""; });
  job.taken("payload", [](JobSpec& spec) { spec.payload = text(kPayloadBytesMax); });
  job.refused("payload", kLarge, [](JobSpec& spec) { spec.payload = text(kPayloadBytesMax + 1); });
  job.taken("content_type", [](JobSpec& spec) { spec.content_type = text(128); });
  job.refused("content_type", kLarge, [](JobSpec& spec) { spec.content_type = text(129); });
  job.refused("content_type", kBad, [](JobSpec& spec) { spec.content_type = "a\nb"; });
  job.refused("content_type", kBad, [](JobSpec& spec) { spec.content_type = "ä"; });
  job.taken("tags", [](JobSpec& spec) { spec.tags.assign(16, text(128)); });
  job.refused("tags", kLarge, [](JobSpec& spec) { spec.tags.assign(17, "x"); });
  job.refused("tags[1]", kLarge, [](JobSpec& spec) { spec.tags = {"x", text(129)}; });
  job.refused("tags[0]", kBad, [](JobSpec& spec) { spec.tags = {""}; });
  job.refused("tags[0]", kBad, [](JobSpec& spec) { spec.tags = {"\xff"}; });
  job.taken("headers", [](JobSpec& spec) { spec.headers = headers(16); });
  job.taken("headers", [](JobSpec& spec) { spec.headers = {{text(64), text(1024)}}; });
  job.refused("headers", kLarge, [](JobSpec& spec) { spec.headers = headers(17); });
  job.refused("headers.h", kLarge, [](JobSpec& spec) { spec.headers = {{"h", text(1025)}}; });
  job.refused("headers", kBad, [](JobSpec& spec) { spec.headers = {{text(65), ""}}; });
  job.refused("headers.h", kMissing, [](JobSpec& spec) { spec.headers = {{"h", ""}, {"h", ""}}; });
}

TEST(Bounds, of_the_numbers_of_a_job) {
  const JobBounds job;
  using Number = std::int64_t JobSpec::*;
  constexpr std::int64_t kYear9999 = 253'402'300'799'999;
  const std::vector<std::tuple<const char*, Number, std::int64_t>> numbers = {
      {"delay_ms", &JobSpec::delay_ms, kTenYearsMs},
      {"run_at_ms", &JobSpec::run_at_ms, kYear9999},
      {"expires_at_ms", &JobSpec::expires_at_ms, kYear9999},
      {"timeout_ms", &JobSpec::timeout_ms, kTenYearsMs},
      {"keep_result_ms", &JobSpec::keep_result_ms, kTenYearsMs}};
  for (const auto& [name, member, max] : numbers) {
    const auto set = [at = member](std::int64_t value) {
      return [at, value](JobSpec& spec) {
        spec.*at = value;
      };
    };
    for (const std::int64_t good : {std::int64_t{0}, std::int64_t{1}, max - 1, max})
      job.taken(name, set(good));
    for (const std::int64_t wrong : {std::int64_t{-1}, max + 1, INT64_MAX, INT64_MIN})
      job.refused(name, kBad, set(wrong));
  }
  const auto retries = [](std::uint32_t count) {
    return [count](JobSpec& spec) {
      spec.retry.max_retries = count;
    };
  };
  job.taken("max_retries", retries(0));
  job.taken("max_retries", retries(1000));
  job.refused("max_retries", kBad, retries(1001));
  job.refused("max_retries", kBad, retries(UINT32_MAX));
}

TEST(Bounds, of_the_back_off_of_a_job) {
  const JobBounds job;
  const auto set = [](auto RetryPolicy::*member, auto value) {
    return [=](JobSpec& spec) {
      spec.retry.cap_ms = kTenYearsMs;
      spec.retry.*member = value;
    };
  };
  for (const std::int64_t good : {std::int64_t{1}, kTenYearsMs})
    job.taken("base_ms", set(&RetryPolicy::base_ms, good));
  for (const std::int64_t wrong : {std::int64_t{0}, std::int64_t{-1}, kTenYearsMs + 1})
    job.refused("retry.base_ms", kBad, set(&RetryPolicy::base_ms, wrong));
  job.taken("cap_ms", set(&RetryPolicy::cap_ms, kBackoffBaseDefaultMs));
  job.refused("retry.cap_ms", kBad, set(&RetryPolicy::cap_ms, kTenYearsMs + 1));
  job.refused("retry", kBad, set(&RetryPolicy::cap_ms, kBackoffBaseDefaultMs - 1));
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double good : {1.0, 1.01, 99.99, 100.0})
    job.taken("factor", set(&RetryPolicy::factor, good));
  for (const double wrong : {0.99, 0.0, -1.0, 100.01, kNan, kInfinity})
    job.refused("retry.factor", kBad, set(&RetryPolicy::factor, wrong));
  for (const double good : {0.0, 0.01, 1.0})
    job.taken("jitter", set(&RetryPolicy::jitter, good));
  for (const double wrong : {-0.01, 1.01, kNan, -kInfinity})
    job.refused("retry.jitter", kBad, set(&RetryPolicy::jitter, wrong));
}

// ---------------------------------------------------------------- requests

Bounds<Request> request(RequestBody body) {
  return Bounds<Request>({make_req(1), std::move(body)});
}

template <typename Body>
auto on(std::function<void(Body&)> change) {
  return [change = std::move(change)](Request& request) {
    change(std::get<Body>(request.body));
  };
}

TEST(Bounds, of_the_counts_in_requests) {
  const auto jobs = [](std::size_t count) {
    return on<Submit>([count](Submit& body) {
      body.jobs.clear();
      for (const JobId& id : ids(count)) {
        JobSpec spec;
        spec.id = id;
        spec.task = "t";
        body.jobs.emplace_back(spec);
      }
    });
  };
  const auto submit = request(Submit{});
  submit.taken("jobs", jobs(1));
  submit.taken("jobs", jobs(1000));
  submit.refused("jobs", kLarge, jobs(1001));
  submit.refused("jobs", kBad, jobs(0));
  const auto get = request(Get{});
  get.taken("ids", on<Get>([](Get& body) { body.ids = ids(1000); }));
  get.refused("ids", kLarge, on<Get>([](Get& body) { body.ids = ids(1001); }));
  get.refused("ids", kBad, on<Get>([](Get& body) { body.ids = ids(0); }));
  get.refused("ids[1]", kBad, on<Get>([](Get& body) { body.ids = {JobId("a"), JobId("")}; }));
  const auto wait = request(Wait{.ids = ids(1)});
  wait.refused("ids", kLarge, on<Wait>([](Wait& body) { body.ids = ids(1001); }));
  const auto cancel = request(Cancel{});
  cancel.taken("ids", on<Cancel>([](Cancel& body) { body.targets.ids = ids(1000); }));
  cancel.refused("ids", kLarge, on<Cancel>([](Cancel& body) { body.targets.ids = ids(1001); }));
  cancel.refused("ids", kMissing, on<Cancel>([](Cancel&) {}));
}

TEST(Bounds, of_the_fields_of_requests) {
  const auto wait = request(Wait{.ids = ids(1)});
  for (const std::int64_t good : {std::int64_t{0}, kWaitMaxMs})
    wait.taken("timeout_ms", on<Wait>([=](Wait& body) { body.timeout_ms = good; }));
  for (const std::int64_t wrong : {std::int64_t{-1}, kWaitMaxMs + 1})
    wait.refused("timeout_ms", kBad, on<Wait>([=](Wait& body) { body.timeout_ms = wrong; }));
  const auto cancel = request(Cancel{.targets = {.ids = ids(1), .filter = {}}, .reason = {}});
  cancel.taken("reason", on<Cancel>([](Cancel& body) { body.reason = text(256); }));
  cancel.refused("reason", kLarge, on<Cancel>([](Cancel& body) { body.reason = text(257); }));
  const auto pause = request(Pause{"q"});
  pause.taken("queue", on<Pause>([](Pause& body) { body.queue = text(64); }));
  pause.refused("queue", kBad, on<Pause>([](Pause& body) { body.queue = text(65); }));
  const auto drain = request(Drain{"n"});
  drain.taken("node", on<Drain>([](Drain& body) { body.node = text(64); }));
  drain.taken("node", on<Drain>([](Drain& body) { body.node = node_id(96); }));
  drain.refused("node", kBad, on<Drain>([](Drain& body) { body.node = text(65); }));
  drain.refused("node", kBad, on<Drain>([](Drain& body) { body.node = node_id(97); }));
  const auto resize = request(SetConcurrency{"n", 1});
  const auto concurrency = [](std::uint32_t value) {
    return on<SetConcurrency>([=](SetConcurrency& body) { body.concurrency = value; });
  };
  resize.taken("concurrency", concurrency(1));
  resize.taken("concurrency", concurrency(10'000));
  resize.refused("concurrency", kBad, concurrency(0));
  resize.refused("concurrency", kBad, concurrency(10'001));
}

TEST(Bounds, of_a_filter_within_cancel_and_at_the_top_of_list) {
  using FilterChange = std::function<void(Filter&)>;
  const auto both =
      [](const char* field, std::optional<ErrorCode> code, const FilterChange& change) {
        Filter filter;
        filter.state = JobState::failed;
        change(filter);
        const auto list = request(List{filter});
        const auto cancel = request(Cancel{{{}, filter}, {}});
        const auto nothing = [](Request&) {
        };
        if (!code) {
          list.taken(field, nothing);
          cancel.taken(field, nothing);
        } else {
          list.refused(field, *code, nothing);
          cancel.refused(std::string("filter.") + field, *code, nothing);
        }
      };
  both("queue", {}, [](Filter& filter) { filter.queue = text(64); });
  both("queue", kBad, [](Filter& filter) { filter.queue = text(65); });
  both("task", {}, [](Filter& filter) { filter.task = text(64); });
  both("task", kBad, [](Filter& filter) { filter.task = text(65); });
  both("tag", {}, [](Filter& filter) { filter.tag = text(128); });
  both("tag", kLarge, [](Filter& filter) { filter.tag = text(129); });
  both("error_code", {}, [](Filter& filter) { filter.error_code = text(64); });
  both("error_code", kLarge, [](Filter& filter) { filter.error_code = text(65); });
  both("cursor", {}, [](Filter& filter) { filter.cursor = text(256); });
  both("cursor", kLarge, [](Filter& filter) { filter.cursor = text(257); });
  both("limit", {}, [](Filter& filter) { filter.limit = 1; });
  both("limit", {}, [](Filter& filter) { filter.limit = 200; });
  both("limit", kBad, [](Filter& filter) { filter.limit = 0; });
  both("limit", kBad, [](Filter& filter) { filter.limit = 201; });
}

TEST(Bounds, of_the_envelope) {
  const auto req_of = [](std::size_t size) {
    return [=](Request& message) {
      message.req.clear();
      msgpack::Writer(message.req).str(text(size));
    };
  };
  const auto ping = request(Ping{});
  ping.taken("req", req_of(0));
  ping.taken("req", req_of(64));
  ping.refused("req", kBad, req_of(65));
  // One map of 128 keys is taken, one more is not.
  for (const std::size_t keys : {128U, 129U}) {
    std::string frame;
    msgpack::Writer out(frame);
    out.map(keys);
    out.str("op"), out.str("ping"), out.str("req"), out.integer(1);
    for (std::size_t i = 2; i < keys; ++i)
      out.str("k" + std::to_string(i)), out.nil();
    EXPECT_EQ(decode_request(frame).has_value(), keys == 128) << keys;
  }
  // A frame of 8 MiB is taken, one byte more is not.
  for (const std::size_t over : {0U, 1U}) {
    std::string frame;
    msgpack::Writer out(frame);
    out.map(3);
    out.str("op"), out.str("ping"), out.str("req"), out.integer(1), out.str("pad");
    out.bin(text(kMessageBytesMax - frame.size() - 5 + over));
    ASSERT_EQ(frame.size(), kMessageBytesMax + over);
    const auto back = decode_request(frame);
    EXPECT_EQ(back.has_value(), over == 0);
    if (over == 1) {
      EXPECT_EQ(back.error().error.code, kLarge);
    }
  }
}

// ---------------------------------------------------------------- workers

TEST(Bounds, of_a_status) {
  using StatusChange = std::function<void(Status&)>;
  Status base;
  base.node = "n@1";
  const Bounds<WorkerMessage> status(base);
  const auto set = [](StatusChange change) {
    return [change = std::move(change)](WorkerMessage& m) {
      change(std::get<Status>(m));
    };
  };
  const auto held = [](std::size_t count) {
    return [=](Status& s) {
      s.held.assign(count, {JobId("a"), {1, 1}, Phase::running});
    };
  };
  status.taken("node", set([](Status& s) { s.node = node_id(96); }));
  status.refused("node", kBad, set([](Status& s) { s.node = node_id(97); }));
  status.refused("node", kBad, set([](Status& s) { s.node = "name"; }));
  status.taken("replaces", set([](Status& s) { s.replaces = node_id(96); }));
  status.refused("replaces", kBad, set([](Status& s) { s.replaces = "name"; }));
  status.taken("concurrency", set([](Status& s) { s.concurrency = 10'000; }));
  status.refused("concurrency", kBad, set([](Status& s) { s.concurrency = 0; }));
  status.refused("concurrency", kBad, set([](Status& s) { s.concurrency = 10'001; }));
  status.taken("tasks", set([](Status& s) { s.tasks.assign(256, text(64)); }));
  status.refused("tasks", kLarge, set([](Status& s) { s.tasks.assign(257, "t"); }));
  status.refused("tasks[1]", kBad, set([](Status& s) { s.tasks = {"t", text(65)}; }));
  status.taken("queues", set([](Status& s) { s.queues.assign(256, text(64)); }));
  status.refused("queues", kLarge, set([](Status& s) { s.queues.assign(257, "q"); }));
  status.taken("labels", set([](Status& s) { s.labels = headers(32); }));
  status.refused("labels", kLarge, set([](Status& s) { s.labels = headers(33); }));
  status.refused("labels.l", kLarge, set([](Status& s) { s.labels = {{"l", text(1025)}}; }));
  status.taken("version", set([](Status& s) { s.version = text(64); }));
  status.refused("version", kLarge, set([](Status& s) { s.version = text(65); }));
  status.taken("isolates", set([](Status& s) { s.isolates.assign(256, {.task = text(64)}); }));
  status.refused("isolates", kLarge, set([](Status& s) { s.isolates.assign(257, {.task = "t"}); }));
  status.refused("isolates[0].task", kBad, set([](Status& s) { s.isolates.resize(1); }));
  status.refused("isolates[0].task", kBad, set([](Status& s) {
                   s.isolates = {{.task = text(65)}};
                 }));
  status.taken("held", set(held(kHeldMax)));
  status.refused("held", kLarge, set(held(kHeldMax + 1)));
  status.refused("held[0].attempt", kBad, set([](Status& s) { s.held = {{JobId("a"), {1, 0}}}; }));
  status.refused("held[0].epoch", kMissing, set([](Status& s) {
                   s.held = {{JobId("a"), {0, 1}}};
                 }));
  status.refused("held[0].id", kBad, set([](Status& s) { s.held = {{JobId(), {1, 1}}}; }));
}

TEST(Bounds, of_a_result) {
  using AttemptResultChange = std::function<void(AttemptResult&)>;
  AttemptResult base;
  base.id = JobId("a");
  base.fence = {1, 1};
  const Bounds<WorkerMessage> done(Results{"n@1", {base}});
  base.outcome = Outcome::failed;
  const Bounds<WorkerMessage> failed(Results{"n@1", {base}});
  const auto set = [](AttemptResultChange change) {
    return [change = std::move(change)](WorkerMessage& m) {
      change(std::get<Results>(m).results[0]);
    };
  };
  const auto count = [](std::size_t results) {
    return [=](WorkerMessage& m) {
      auto& list = std::get<Results>(m).results;
      const AttemptResult one = list[0];
      list.assign(results, one);
    };
  };
  done.taken("results", count(1000));
  done.refused("results", kLarge, count(1001));
  done.refused("results", kBad, count(0));
  done.taken("result", set([](AttemptResult& r) { r.result = text(kResultBytesMax); }));
  done.refused("results[0].result", kLarge, set([](AttemptResult& r) {
                 r.result = text(kResultBytesMax + 1);
               }));
  done.refused("results[0].usage.cpu_ms", kBad, set([](AttemptResult& r) { r.usage.cpu_ms = -1; }));
  done.refused("results[0].attempt", kBad, set([](AttemptResult& r) { r.fence.attempt = 0; }));
  const std::string error = "results[0].error.";
  failed.taken("code", set([](AttemptResult& r) { r.error_code = text(64); }));
  failed.refused(error + "code", kLarge, set([](AttemptResult& r) { r.error_code = text(65); }));
  failed.taken("message", set([](AttemptResult& r) { r.error = text(4096); }));
  failed.refused(error + "message", kLarge, set([](AttemptResult& r) { r.error = text(4097); }));
  for (const std::int64_t good : {std::int64_t{0}, kTenYearsMs})
    failed.taken("retry_after_ms", set([=](AttemptResult& r) { r.retry_after_ms = good; }));
  for (const std::int64_t wrong : {std::int64_t{-1}, kTenYearsMs + 1})
    failed.refused(error + "retry_after_ms", kBad, set([=](AttemptResult& r) {
                     r.retry_after_ms = wrong;
                   }));
}

TEST(Bounds, of_a_progress) {
  using ProgressChange = std::function<void(Progress&)>;
  const Bounds<WorkerMessage> progress(Progress{.node = "n@1",
                                                .id = JobId("a"),
                                                .fence = {1, 1},
                                                .message = {},
                                                .checkpoint = "c",
                                                .checkpoint_n = 1});
  const auto set = [](ProgressChange change) {
    return [change = std::move(change)](WorkerMessage& m) {
      change(std::get<Progress>(m));
    };
  };
  progress.taken("percent", set([](Progress& p) { p.percent = 100; }));
  progress.refused("percent", kBad, set([](Progress& p) { p.percent = 101; }));
  progress.taken("message", set([](Progress& p) { p.message = text(256); }));
  progress.refused("message", kLarge, set([](Progress& p) { p.message = text(257); }));
  progress.taken("checkpoint", set([](Progress& p) { p.checkpoint = text(4096); }));
  progress.refused("checkpoint", kLarge, set([](Progress& p) { p.checkpoint = text(4097); }));
  progress.refused("checkpoint_n", kMissing, set([](Progress& p) { p.checkpoint_n = 0; }));
}

TEST(Bounds, of_a_log) {
  using LogChange = std::function<void(Log&)>;
  const Bounds<WorkerMessage> log(Log{"n@1", JobId("a"), {1, 1}, "x"});
  const auto set = [](LogChange change) {
    return [change = std::move(change)](WorkerMessage& m) {
      change(std::get<Log>(m));
    };
  };
  log.taken("bytes", set([](Log& l) { l.bytes = text(16'384); }));
  log.refused("bytes", kLarge, set([](Log& l) { l.bytes = text(16'385); }));
  log.refused("bytes", kMissing, set([](Log& l) { l.bytes.clear(); }));
  log.refused("attempt", kBad, set([](Log& l) { l.fence.attempt = 0; }));
}

// What a worker takes from a broker.
TEST(Bounds, of_what_a_broker_sends) {
  const auto bounds = [](BrokerBody body) {
    return Bounds<BrokerMessage>({{1, 1}, std::move(body)});
  };
  RunJob job;
  job.id = JobId("a");
  job.fence = {1, 1};
  job.task = "t";
  job.queue = "q";
  const auto run = bounds(sluice::Run{{job}});
  const auto set = [](std::function<void(RunJob&)> change) {
    return [change = std::move(change)](BrokerMessage& m) {
      change(std::get<sluice::Run>(m.body).jobs[0]);
    };
  };
  run.taken("payload", set([](RunJob& j) { j.payload = text(kPayloadBytesMax); }));
  run.refused("jobs[0].payload", kLarge, set([](RunJob& j) {
                j.payload = text(kPayloadBytesMax + 1);
              }));
  run.taken("checkpoint", set([](RunJob& j) { j.checkpoint = text(4096); }));
  run.refused("jobs[0].checkpoint", kLarge, set([](RunJob& j) { j.checkpoint = text(4097); }));
  run.refused("jobs[0].content_type", kLarge, set([](RunJob& j) { j.content_type = text(129); }));
  run.refused("jobs[0].attempt", kBad, set([](RunJob& j) { j.fence.attempt = 0; }));
  run.refused("jobs[0].task", kBad, set([](RunJob& j) { j.task = ""; }));
  const auto drop = bounds(DropAttempts{});
  const auto attempts = [](std::size_t count) {
    return [=](BrokerMessage& m) {
      std::get<DropAttempts>(m.body).attempts.assign(count, {JobId("a"), {1, 1}});
    };
  };
  drop.taken("attempts", attempts(kHeldMax));
  drop.refused("attempts", kLarge, attempts(kHeldMax + 1));
  drop.refused("attempts", kBad, attempts(0));
  const auto wish = bounds(ConcurrencyWish{});
  const auto concurrency = [](std::uint32_t value) {
    return [=](BrokerMessage& m) {
      std::get<ConcurrencyWish>(m.body).concurrency = value;
    };
  };
  wish.taken("concurrency", concurrency(10'000));
  wish.refused("concurrency", kBad, concurrency(0));
  wish.refused("concurrency", kBad, concurrency(10'001));
  const auto welcome = bounds(Welcome{});
  welcome.refused("heartbeat_ms", kBad, [](BrokerMessage& m) {
    std::get<Welcome>(m.body).heartbeat_ms = 0;
  });
}

}  // namespace
}  // namespace sluice::common_bounds_test
