// An attempt is a small machine, one call at a time:
//
//   thread -> list -+-> (a run succeeded) -----------------------> state -> done
//                   +-> (a run is alive) --> join -> look -+-----> state
//                   +-> create ------------> join          +-> failed
//   join failed -> look, every poll_ms until the run has ended
//   stop(cancel, timed_out): [list] -> cancel -> done, all within cancel_ms
//
// A handed-back or superseded attempt leaves the remote run alone: the next attempt joins it.
#include "worker/tasks/analysis.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "common/clock.h"
#include "common/nesting.h"
#include "worker/runtime/payload.h"
#include "worker/tasks/attempt_log.h"
#include "worker/tasks/attempt_result.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using Json = nlohmann::json;

enum class Step : std::uint8_t {
  thread,
  list,
  create,
  join,
  look,
  wait,  // no call: until wake_mono_ms
  state,
  cancel_list,
  cancel
};

struct Attempt {
  RunJob job;
  const AnalysisTask* task = nullptr;
  AnalysisInput input;
  std::string thread_id;
  std::string run_id;
  std::vector<Header> headers;
  std::vector<UsedSecret> secrets;
  Step step = Step::thread;
  CallId call = 0;  // 0 = none
  std::int64_t deadline_mono_ms = kNever;
  std::int64_t wake_mono_ms = kNever;
  std::int64_t started_mono_ms = 0;
  std::int64_t started_wall_ms = 0;
  std::string graph_error;  // what the join's body said
  std::string logged_status;
  std::optional<StopReason> stopped;
};

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

// The server's word goes into a URL.
bool is_run_id(const std::string& text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
             "0123456789-_") == std::string::npos;
}

std::string run_with_status(const Json& runs, std::initializer_list<std::string_view> statuses) {
  if (!runs.is_array()) return {};
  for (const Json& run : runs) {
    const std::string status = text_of(run, "status");
    const std::string id = text_of(run, "run_id");
    if (is_run_id(id) && std::find(statuses.begin(), statuses.end(), status) != statuses.end())
      return id;
  }
  return {};
}

// Discarded when it is none, or nested deeper than any state is.
Json json_of(const std::string& body) {
  constexpr std::size_t kDepthMax = 128;
  return is_json_within(body, kDepthMax) ? Json::parse(body, nullptr, false)
                                         : Json(Json::value_t::discarded);
}

// The message of an `__error__` body; nothing when there is none.
std::optional<std::string> graph_error_of(const Json& body) {
  if (!body.is_object() || !body.contains("__error__")) return std::nullopt;
  const Json& error = body.at("__error__");
  std::string message = text_of(error, "message");
  return message.empty() ? error.dump(-1, ' ', false, Json::error_handler_t::replace) : message;
}

class AnalysisRuntime : public Runtime {
 public:
  explicit AnalysisRuntime(std::map<std::string, AnalysisTask, std::less<>> tasks)
      : tasks_(std::move(tasks)) {}

  void start(Assignment assignment) override {
    Attempt attempt;
    if (auto prepared = prepare(assignment, attempt); !prepared) {
      const bool is_input = prepared.error().code == ErrorCode::bad_field;
      events_.emplace_back(
          AttemptDone{failed_attempt(assignment.job,
                                     prepared.error(),
                                     is_input ? "bad_payload" : "secret_refused")});
      loop_.wake();
      return;
    }
    const AttemptKey key{attempt.job.id, attempt.job.fence};
    Attempt& kept = attempts_[key] = std::move(attempt);
    call(kept,
         Step::thread,
         "POST",
         "/threads",
         Json{{"thread_id", kept.thread_id}, {"if_exists", "do_nothing"}});
  }

  void stop(const JobId& id, Fence fence, StopReason reason) override {
    const auto it = attempts_.find({id, fence});
    if (it == attempts_.end()) return;
    Attempt& attempt = it->second;
    const bool is_stopping = attempt.stopped.has_value();
    if (is_stopping && reason != StopReason::dropped) return;
    attempt.stopped = reason;
    log(attempt, "stopped (" + std::string(to_string(reason)) + ')');
    end_call(attempt);
    const bool ends_run = reason == StopReason::cancel || reason == StopReason::timed_out;
    if (!ends_run || attempt.step == Step::state) {
      finish(attempt, stopped_attempt(attempt.job, reason));
      loop_.wake();
      return;
    }
    attempt.deadline_mono_ms = after(clock_now().mono_ms, attempt.task->cancel_ms);
    if (attempt.run_id.empty())
      call(attempt, Step::cancel_list, "GET", runs_path(attempt));
    else
      call(attempt, Step::cancel, "POST", run_path(attempt) + "/cancel", Json::object());
  }

  [[nodiscard]] int fd() const override { return loop_.fd(); }

  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override {
    std::int64_t next = kNever;
    for (const auto& [key, attempt] : attempts_)
      next = std::min(next, attempt.wake_mono_ms);
    return next;
  }

  void poll(Now now, std::vector<RuntimeEvent>& events) override {
    for (FinishedCall& finished : loop_.poll()) {
      auto node = attempt_of_call_.extract(finished.id);
      if (!node) continue;
      const auto it = attempts_.find(node.mapped());
      it->second.call = 0;
      answered(it->second, finished.reply, now);
    }
    for (auto& [key, attempt] : attempts_)
      if (attempt.wake_mono_ms <= now.mono_ms) look(attempt);
    for (const AttemptKey& key : ended_)
      attempts_.erase(key);
    ended_.clear();
    std::ranges::move(events_, std::back_inserter(events));
    events_.clear();
  }

 private:
  Result<void> prepare(Assignment& assignment, Attempt& attempt) const {
    const RunJob& job = assignment.job;
    const auto task = tasks_.find(job.task);
    if (task == tasks_.end())
      return fail(ErrorCode::bad_field, "task", "this node has no task " + job.task);
    const auto payload = payload_as_json(job.content_type, job.payload);
    if (!payload) return fail(ErrorCode::bad_field, "payload", "is neither JSON nor msgpack");
    auto input = parse_analysis_input(*payload);
    if (!input) return tl::unexpected(input.error());
    attempt.task = &task->second;
    attempt.input = std::move(*input);
    if (!attempt.task->api_key.empty()) {
      auto key = attempt.task->http.secrets.fill_in(attempt.task->api_key, attempt.secrets);
      if (!key) return fail(ErrorCode::denied, key.error().where, key.error().detail);
      if (key->find_first_of("\r\n") != std::string::npos)
        return fail(ErrorCode::denied, "api_key", "has a line break");
      attempt.headers.push_back({"X-Api-Key", std::move(*key)});
    }
    attempt.thread_id = analysis_thread_id(job.id, job.life);
    attempt.deadline_mono_ms = assignment.deadline_mono_ms;
    const Now now = clock_now();
    attempt.started_mono_ms = now.mono_ms;
    attempt.started_wall_ms = now.wall_ms;
    attempt.job = std::move(assignment.job);
    return {};
  }

  static std::string runs_path(const Attempt& attempt) {
    return "/threads/" + attempt.thread_id + "/runs";
  }

  static std::string run_path(const Attempt& attempt) {
    return runs_path(attempt) + "/" + attempt.run_id;
  }

  void call(Attempt& attempt,
            Step step,
            const char* method,
            const std::string& path,
            std::optional<Json> body = std::nullopt) {
    const AnalysisTask& task = *attempt.task;
    HttpRequest request;
    request.method = method;
    request.target = *parse_target(task.http.base_url + path);
    request.headers = attempt.headers;
    request.headers.push_back({"Accept", "application/json"});
    request.headers.push_back({"Idempotency-Key", attempt.job.id.str()});
    if (body) {
      request.headers.push_back({"Content-Type", "application/json"});
      request.body = body->dump();
    }
    request.rules = task.http.rules;
    request.response_bytes_max = task.http.response_bytes_max;
    request.connect_timeout_ms = task.http.connect_timeout_ms;
    request.ca_file = task.http.ca_file;
    request.group = attempt.job.task;
    request.calls_per_host = task.http.calls_per_host;
    request.redirects_max = 0;  // an API does not move
    request.timeout_ms = step == Step::join ? 0 : task.call_timeout_ms;
    request.deadline_mono_ms = attempt.deadline_mono_ms;
    request.is_urgent = step == Step::cancel_list || step == Step::cancel;
    attempt.step = step;
    attempt.wake_mono_ms = kNever;
    attempt.call = loop_.start(std::move(request));
    attempt_of_call_[attempt.call] = {attempt.job.id, attempt.job.fence};
  }

  void end_call(Attempt& attempt) {
    if (attempt.call == 0) return;
    loop_.cancel(attempt.call);
    attempt_of_call_.erase(attempt.call);
    attempt.call = 0;
  }

  // The attempt stays in the map until poll() has left its loops.
  void finish(Attempt& attempt, AttemptResult result) {
    redact(result.error, attempt.secrets);
    redact(result.result, attempt.secrets);
    attempt.wake_mono_ms = kNever;
    const AttemptKey key{attempt.job.id, attempt.job.fence};
    if (std::find(ended_.begin(), ended_.end(), key) != ended_.end()) return;
    ended_.push_back(key);
    log_end(attempt, result);
    events_.emplace_back(AttemptDone{std::move(result)});
  }

  void log(const Attempt& attempt, const std::string& what) {
    std::string line = "thread " + attempt.thread_id;
    if (!attempt.run_id.empty()) line += ", run " + attempt.run_id;
    events_.emplace_back(log_line(attempt.job, line + ": " + what));
  }

  void log_end(const Attempt& attempt, const AttemptResult& result) {
    const std::int64_t took_ms = clock_now().mono_ms - attempt.started_mono_ms;
    const std::string after = " after " + std::to_string(took_ms) + " ms";
    if (result.outcome == Outcome::completed) log(attempt, "done" + after);
    if (result.outcome == Outcome::failed)
      log(attempt, "failed (" + result.error_code + ')' + after);
  }

  void fail_with(Attempt& attempt, std::string code, std::string text, bool can_retry = true) {
    AttemptResult result =
        failed_attempt(attempt.job, Error{ErrorCode::internal, {}, std::move(text)}, code);
    result.retryable = can_retry;
    finish(attempt, std::move(result));
  }

  void look(Attempt& attempt) { call(attempt, Step::look, "GET", run_path(attempt)); }

  void wait_and_look(Attempt& attempt, Now now) {
    attempt.step = Step::wait;
    attempt.wake_mono_ms = after(now.mono_ms, attempt.task->poll_ms);
  }

  void join(Attempt& attempt, const std::string& run_id, const char* how) {
    if (!is_run_id(run_id)) {
      fail_with(attempt, "bad_response", "the server named no usable run_id");
      return;
    }
    attempt.run_id = run_id;
    log(attempt, how);
    call(attempt, Step::join, "GET", run_path(attempt) + "/join");
  }

  void answered(Attempt& attempt, const HttpReply& reply, Now now) {
    if (attempt.step == Step::cancel_list || attempt.step == Step::cancel) {
      cancel_answered(attempt, reply);
      return;
    }
    const bool is_good = reply.error_code.empty() && reply.status / 100 == 2;
    if (!is_good && attempt.step == Step::join) {
      look(attempt);  // the look says what the join did not
      return;
    }
    if (!is_good) {
      call_failed(attempt, reply, now);
      return;
    }
    const Json body = json_of(reply.body);
    const auto graph_error = graph_error_of(body);
    if (attempt.step == Step::join) {
      attempt.graph_error = graph_error.value_or("");
      look(attempt);
    } else if (graph_error) {
      fail_with(attempt, "graph_error", *graph_error);
    } else if (body.is_discarded()) {
      fail_with(attempt, "bad_response", "the server's answer is no JSON");
    } else {
      next(attempt, body, now);
    }
  }

  void next(Attempt& attempt, const Json& body, Now now) {
    switch (attempt.step) {
      case Step::thread:
        call(attempt, Step::list, "GET", runs_path(attempt));
        break;
      case Step::list:
        listed(attempt, body);
        break;
      case Step::create:
        join(attempt, text_of(body, "run_id"), "created");
        break;
      case Step::look:
        looked(attempt, text_of(body, "status"), now);
        break;
      default:
        reported(attempt, body, now);
    }
  }

  void listed(Attempt& attempt, const Json& runs) {
    if (!runs.is_array()) {  // who cannot say what runs there are is not asked for another
      fail_with(attempt, "bad_response", "the server's answer is no list of runs");
    } else if (std::string id = run_with_status(runs, {"success"}); !id.empty()) {
      attempt.run_id = std::move(id);
      log(attempt, "found, it has succeeded");
      fetch_state(attempt);
    } else if (id = run_with_status(runs, {"running", "pending"}); !id.empty()) {
      join(attempt, id, "joined");
    } else {
      call(attempt,
           Step::create,
           "POST",
           runs_path(attempt),
           Json{{"assistant_id", attempt.task->assistant_id},
                {"input",
                 {{"company_of_interest", attempt.input.ticker},
                  {"trade_date", attempt.input.trade_date}}}});
    }
  }

  void looked(Attempt& attempt, const std::string& status, Now now) {
    if (status == "pending" || status == "running") {
      if (std::exchange(attempt.logged_status, status) != status) log(attempt, "status " + status);
      wait_and_look(attempt, now);
    } else if (status == "success" && attempt.graph_error.empty()) {
      fetch_state(attempt);
    } else if (status.empty()) {
      fail_with(attempt, "bad_response", "the server's answer names no status of the run");
    } else if (status == "timeout" || status == "interrupted") {
      fail_with(attempt, "run_" + status, "run " + attempt.run_id + " ended as " + status);
    } else {
      fail_with(attempt,
                "graph_error",
                attempt.graph_error.empty() ? "run " + attempt.run_id + " ended as " + status
                                            : attempt.graph_error);
    }
  }

  void fetch_state(Attempt& attempt) {
    call(attempt, Step::state, "GET", "/threads/" + attempt.thread_id + "/state");
  }

  void reported(Attempt& attempt, const Json& state, Now now) {
    const auto values = state.is_object() ? state.find("values") : state.end();
    std::string report =
        values == state.end() ? std::string() : text_of(*values, "final_trade_decision");
    redact(report, attempt.secrets);  // before its bytes are escaped and counted
    if (report.empty()) {
      fail_with(attempt, "no_report", "the thread's state has no final_trade_decision");
      return;
    }
    const Json result = {{"ticker", attempt.input.ticker},
                         {"trade_date", attempt.input.trade_date},
                         {"report", report},
                         {"thread_id", attempt.thread_id},
                         {"run_id", attempt.run_id},
                         {"started_ms", attempt.started_wall_ms},
                         {"duration_ms", now.mono_ms - attempt.started_mono_ms}};
    finish(attempt,
           completed_attempt(attempt.job,
                             result.dump(-1, ' ', false, Json::error_handler_t::replace)));
  }

  void call_failed(Attempt& attempt, const HttpReply& reply, Now now) {
    AttemptResult result = failed_call(attempt.job, reply, attempt.secrets, now.wall_ms);
    if (reply.status == 404 && reply.error_code.empty()) {
      const bool is_assistant = attempt.step == Step::create;
      result.error_code = is_assistant                   ? "assistant_not_found"
                          : attempt.step == Step::thread ? "no_threads_here"
                                                         : "run_not_found";
      // A server in memory that was started again has forgotten the thread: begin again.
      result.retryable = !is_assistant && attempt.step != Step::thread;
    }
    finish(attempt, std::move(result));
  }

  // Best effort: whatever came back, the attempt is over, unless there is a run still to cancel.
  void cancel_answered(Attempt& attempt, const HttpReply& reply) {
    if (attempt.step == Step::cancel_list && reply.status == 200 && reply.error_code.empty()) {
      const Json runs = json_of(reply.body);
      attempt.run_id = run_with_status(runs, {"running", "pending"});
      if (!attempt.run_id.empty()) {
        call(attempt, Step::cancel, "POST", run_path(attempt) + "/cancel", Json::object());
        return;
      }
    }
    finish(attempt, stopped_attempt(attempt.job, *attempt.stopped));
  }

  const std::map<std::string, AnalysisTask, std::less<>> tasks_;
  CurlLoop loop_;
  std::unordered_map<AttemptKey, Attempt> attempts_;
  std::unordered_map<CallId, AttemptKey> attempt_of_call_;
  std::vector<AttemptKey> ended_;
  std::vector<RuntimeEvent> events_;
};

}  // namespace

Result<void> AnalysisRuntimeBuilder::add(TaskSettings& settings) {
  AnalysisTask task;
  task.http.response_bytes_max = 4u << 20;  // of a whole state; the report itself has 1 MiB
  if (auto taken = take_common_settings(settings, task.http); !taken) return taken;
  const auto assistant = settings.take_text("assistant_id");
  const auto key = settings.take_text("api_key");
  const auto poll = settings.take_duration_ms("poll_interval");
  const auto cancel = settings.take_duration_ms("cancel_timeout");
  const auto call = settings.take_duration_ms("call_timeout");
  if (!assistant) return tl::unexpected(assistant.error());
  if (!key) return tl::unexpected(key.error());
  for (const auto* duration : {&poll, &cancel, &call})
    if (!*duration) return tl::unexpected(duration->error());
  if (task.http.base_url.empty())
    return tl::unexpected(settings.missing("base_url", "an analysis task needs one"));
  if (task.http.base_url.ends_with('/')) task.http.base_url.pop_back();
  if (!*assistant)
    return tl::unexpected(settings.missing("assistant_id", "an analysis task needs one"));
  task.assistant_id = **assistant;
  task.api_key = key->value_or("");
  task.poll_ms = std::max<std::int64_t>(poll->value_or(task.poll_ms), 10);
  task.cancel_ms = cancel->value_or(task.cancel_ms);
  task.call_timeout_ms = call->value_or(task.call_timeout_ms);
  std::vector<UsedSecret> used;
  if (!task.api_key.empty() && secret_names(task.api_key).empty())
    return tl::unexpected(settings.error("api_key", "must name a secret: \"secret:NAME\""));
  if (auto filled = task.http.secrets.fill_in(task.api_key, used); !filled)
    return tl::unexpected(settings.error("api_key", filled.error().detail));
  tasks_[settings.task()] = std::move(task);
  return {};
}

std::unique_ptr<Runtime> AnalysisRuntimeBuilder::build() {
  return std::make_unique<AnalysisRuntime>(std::move(tasks_));
}

}  // namespace sluice
