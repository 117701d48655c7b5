#include "worker/tasks/http.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "common/base64.h"
#include "common/clock.h"
#include "common/utf8.h"
#include "worker/runtime/payload.h"
#include "worker/tasks/attempt_log.h"
#include "worker/tasks/attempt_result.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using Json = nlohmann::json;

std::string response_json(const HttpReply& reply) {
  Json result = {{"status", reply.status}, {"content_type", reply.header("content-type")}};
  Json headers = Json::object();
  for (const Header& header : reply.headers)
    headers[header.name] = header.value;
  result["headers"] = std::move(headers);
  if (is_utf8(reply.body))
    result["body"] = reply.body;
  else
    result["body_base64"] = base64_of(reply.body);
  return result.dump(-1, ' ', false, Json::error_handler_t::replace);
}

class HttpRuntime : public Runtime {
 public:
  explicit HttpRuntime(std::map<std::string, HttpTask, std::less<>> tasks)
      : tasks_(std::move(tasks)) {}

  void start(Assignment assignment) override {
    const RunJob& job = assignment.job;
    auto plan = plan_of(job);
    if (!plan) {
      const ErrorCode code = plan.error().code;
      const bool is_secret = code == ErrorCode::denied || code == ErrorCode::not_found;
      finish(failed_attempt(job, plan.error(), is_secret ? "secret_refused" : "bad_payload"));
      return;
    }
    plan->request.expect = plan->expect;
    plan->request.deadline_mono_ms = assignment.deadline_mono_ms;
    std::string shown = shown_call(plan->request);
    const CallId call = loop_.start(std::move(plan->request));
    const AttemptKey key{job.id, job.fence};
    call_of_[key] = call;
    assignment.job.payload.clear();
    running_[call] = {std::move(assignment.job),
                      std::move(*plan),
                      std::move(shown),
                      clock_now().mono_ms};
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = call_of_.find({id, fence});
    if (it == call_of_.end()) return;
    loop_.cancel(it->second);
    const Running& running = running_.at(it->second);
    const std::int64_t took_ms = clock_now().mono_ms - running.started_mono_ms;
    events_.emplace_back(log_line(running.job,
                                  running.shown_call + ": stopped (" +
                                      std::string(to_string(reason)) + ") after " +
                                      std::to_string(took_ms) + " ms"));
    finish(stopped_attempt(running.job, reason));
    running_.erase(it->second);
    call_of_.erase(it);
  }

  [[nodiscard]] int fd() const override { return loop_.fd(); }

  void poll(Now now, std::vector<RuntimeEvent>& events) override {
    for (FinishedCall& finished : loop_.poll()) {
      auto node = running_.extract(finished.id);
      if (!node) continue;
      Running& running = node.mapped();
      call_of_.erase({running.job.id, running.job.fence});
      const std::int64_t took_ms = now.mono_ms - running.started_mono_ms;
      AttemptResult result = result_of(running, finished.reply, now);
      // One that went well says nothing: a line costs the broker a write.
      if (result.outcome == Outcome::failed)
        events_.emplace_back(
            log_line(running.job, ended_line(running.shown_call, finished.reply, result, took_ms)));
      events_.emplace_back(AttemptDone{std::move(result)});
    }
    std::ranges::move(events_, std::back_inserter(events));
    events_.clear();
  }

 private:
  struct Running {
    RunJob job;
    HttpPlan plan;  // its request has moved into the loop
    std::string shown_call;
    std::int64_t started_mono_ms = 0;
  };

  Result<HttpPlan> plan_of(const RunJob& job) const {
    const auto task = tasks_.find(job.task);
    if (task == tasks_.end())
      return fail(ErrorCode::bad_field, "task", "this node has no task " + job.task);
    const auto payload = payload_as_json(job.content_type, job.payload);
    if (!payload)
      return fail(ErrorCode::bad_field, "payload", "is neither JSON nor msgpack as it claims");
    return plan_http_call(task->second, job, *payload);
  }

  static AttemptResult result_of(const Running& running, HttpReply& reply, Now now) {
    const bool is_wanted = is_expected(reply.status, running.plan.expect);
    // What was wanted and was cut off is no answer, whatever its status.
    if (is_wanted && !reply.error_code.empty()) reply.status = 0;
    if (!is_wanted || !reply.error_code.empty())
      return failed_call(running.job, reply, running.plan.used_secrets, now.wall_ms);
    redact(reply.body, running.plan.used_secrets);
    if (!running.plan.wants_response) return completed_attempt(running.job, std::move(reply.body));
    for (Header& header : reply.headers)
      redact(header.value, running.plan.used_secrets);
    return completed_attempt(running.job, response_json(reply));
  }

  void finish(AttemptResult result) {
    events_.emplace_back(AttemptDone{std::move(result)});
    loop_.wake();
  }

  const std::map<std::string, HttpTask, std::less<>> tasks_;
  CurlLoop loop_;
  std::unordered_map<CallId, Running> running_;
  std::unordered_map<AttemptKey, CallId> call_of_;
  std::vector<RuntimeEvent> events_;
};

template <typename Value, typename Taken>
Result<void> keep(Result<std::optional<Taken>> taken, Value& value) {
  if (!taken) return tl::unexpected(taken.error());
  if (*taken) value = static_cast<Value>(std::move(**taken));
  return {};
}

// The first error of several, all evaluated.
Result<void> first_error(std::initializer_list<Result<void>> results) {
  for (const Result<void>& result : results)
    if (!result) return result;
  return {};
}

Result<void> take_headers(TaskSettings& settings, HttpTask& task) {
  auto headers = settings.take_map("headers");
  if (!headers) return tl::unexpected(headers.error());
  if (!*headers) return {};
  for (const auto& [name, value] : **headers) {
    std::vector<UsedSecret> used;
    if (auto filled = task.secrets.fill_in(value, used); !filled)
      return tl::unexpected(settings.error("headers." + name, filled.error().detail));
    if (!secret_names(value).empty() && task.base_url.empty())
      return tl::unexpected(
          settings.error("headers." + name, "a secret here needs a base_url to send it to"));
    task.headers.push_back({name, value});
  }
  return {};
}

}  // namespace

Result<void> take_common_settings(TaskSettings& settings, HttpTask& task) {
  std::vector<std::string> allow;
  std::string secrets_directory;
  auto taken = first_error({
      keep(settings.take_text("base_url"), task.base_url),
      keep(settings.take_texts("allow"), allow),
      keep(settings.take_text("secrets_dir"), secrets_directory),
      keep(settings.take_integer("response_bytes_max", 1, 64 << 20), task.response_bytes_max),
      keep(settings.take_duration_ms("connect_timeout"), task.connect_timeout_ms),
      keep(settings.take_integer("calls_per_host", 0, 100'000), task.calls_per_host),
      keep(settings.take_text("ca_file"), task.ca_file),
  });
  if (!taken) return taken;
  if (!task.base_url.empty())
    if (const auto base = parse_target(task.base_url); !base)
      return tl::unexpected(settings.error("base_url", base.error().detail));
  // Paths are put behind it.
  if (task.base_url.find_first_of("?#") != std::string::npos)
    return tl::unexpected(settings.error("base_url", "has a query: it belongs to the job's url"));
  auto rules = TargetRules::parse(allow);
  if (!rules) return tl::unexpected(settings.error("allow", rules.error().detail));
  task.rules = std::make_shared<const TargetRules>(std::move(*rules));
  task.secrets = SecretStore(secrets_directory);
  return {};
}

Result<void> HttpRuntimeBuilder::add(TaskSettings& settings) {
  HttpTask task;
  if (auto taken = take_common_settings(settings, task); !taken) return taken;
  std::string form = "body";
  auto taken = first_error({
      keep(settings.take_texts("secrets"), task.job_secrets),
      keep(settings.take_texts("expect"), task.expect),
      keep(settings.take_text("result"), form),
      keep(settings.take_duration_ms("call_timeout"), task.timeout_ms),
      keep(settings.take_duration_ms("stall_timeout"), task.stall_ms),
      keep(settings.take_integer("redirects", 0, 3), task.redirects_max),
      take_headers(settings, task),
  });
  if (!taken) return taken;
  if (!task.job_secrets.empty() && task.base_url.empty())
    return tl::unexpected(
        settings.error("secrets", "secrets need a base_url: they go to its origin only"));
  if (form != "body" && form != "response")
    return tl::unexpected(settings.error("result", "must be body or response"));
  if (task.expect.empty() || !std::ranges::all_of(task.expect, is_status_pattern))
    return tl::unexpected(settings.error("expect", "a status such as \"404\", or \"2xx\""));
  task.wants_response = form == "response";
  tasks_[settings.task()] = std::move(task);
  return {};
}

std::unique_ptr<Runtime> HttpRuntimeBuilder::build() {
  return std::make_unique<HttpRuntime>(std::move(tasks_));
}

}  // namespace sluice
