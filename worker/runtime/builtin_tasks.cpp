#include "worker/runtime/builtin_tasks.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "common/limits.h"
#include "worker/runtime/payload.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

TaskOutcome echo(Task& task) {
  return task.payload();
}

TaskOutcome noop(Task&) {
  return TaskOutcome::ok();
}

// Of a JSON integer; more than any delay is as much as the longest.
std::int64_t span_ms(const nlohmann::json& number) {
  if (number.is_number_unsigned())
    return static_cast<std::int64_t>(
        std::min<std::uint64_t>(number.get<std::uint64_t>(), std::uint64_t{kTenYearsMs}));
  return std::max<std::int64_t>(number.get<std::int64_t>(), 0);
}

// False when it was asked to stop meanwhile.
bool pause(const Task& task, std::int64_t ms) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, task.stop_token(), std::chrono::milliseconds(ms), [] { return false; });
  return !task.stop_requested();
}

TaskOutcome sleep(Task& task) {
  const auto body = payload_as_json(task.content_type(), task.payload());
  if (!body) return TaskOutcome::failed("bad_payload", "sleep wants {\"ms\": N}", false);
  const nlohmann::json ms = body->is_object() ? body->value("ms", nlohmann::json()) : *body;
  if (!ms.is_number_integer())
    return TaskOutcome::failed("bad_payload", "sleep wants {\"ms\": N}", false);
  if (!pause(task, span_ms(ms)))
    return TaskOutcome::failed("stopped", "asked to stop while asleep");
  return TaskOutcome::ok();
}

TaskOutcome count(Task& task) {
  const auto bad = [] {
    return TaskOutcome::failed("bad_payload", "count wants {\"to\": N, \"ms\": N}", false);
  };
  const auto body = payload_as_json(task.content_type(), task.payload());
  if (!body || !body->is_object()) return bad();
  const nlohmann::json to = body->value("to", nlohmann::json());
  const nlohmann::json ms = body->value("ms", nlohmann::json(0));
  if (!to.is_number_integer() || !ms.is_number_integer()) return bad();
  const std::int64_t end = span_ms(to);
  std::int64_t from = 0;
  const std::string& place = task.last_checkpoint();
  std::from_chars(place.data(), place.data() + place.size(), from);
  for (std::int64_t number = from; number < end; ++number) {
    if (!pause(task, span_ms(ms)))
      return TaskOutcome::failed("stopped", "asked to stop at " + std::to_string(number));
    task.progress(static_cast<std::uint32_t>((number + 1) * 100 / end), std::to_string(number + 1));
    task.checkpoint(std::to_string(number + 1));
  }
  return nlohmann::json{{"from", from}, {"to", end}}.dump();
}

TaskOutcome fail_as_asked(Task& task) {
  const auto body = payload_as_json(task.content_type(), task.payload());
  TaskOutcome outcome = TaskOutcome::failed("failed", "as asked");
  if (!body || !body->is_object()) return outcome;
  if (const auto code = body->find("code"); code != body->end() && code->is_string())
    outcome.error_code = code->get<std::string>();
  if (const auto text = body->find("message"); text != body->end() && text->is_string())
    outcome.error = text->get<std::string>();
  if (const auto flag = body->find("retryable"); flag != body->end() && flag->is_boolean())
    outcome.retryable = flag->get<bool>();
  if (const auto ms = body->find("retry_after_ms"); ms != body->end() && ms->is_number_integer())
    outcome.retry_after_ms = span_ms(*ms);
  return outcome;
}

}  // namespace

Handlers builtin_handlers() {
  return {{"echo", make_handler(echo)},
          {"noop", make_handler(noop)},
          {"sleep", make_handler(sleep)},
          {"count", make_handler(count)},
          {"fail", make_handler(fail_as_asked)}};
}

}  // namespace sluice
