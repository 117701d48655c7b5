#include "worker/runtime/builtin_tasks.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

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
    task.log("counted to " + std::to_string(number + 1));
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

struct DeadlySignal {
  const char* name;
  int number;
};

constexpr std::array kDeadlySignals{DeadlySignal{"SIGSEGV", SIGSEGV},
                                    DeadlySignal{"SIGABRT", SIGABRT},
                                    DeadlySignal{"SIGBUS", SIGBUS},
                                    DeadlySignal{"SIGFPE", SIGFPE},
                                    DeadlySignal{"SIGILL", SIGILL},
                                    DeadlySignal{"SIGKILL", SIGKILL},
                                    DeadlySignal{"SIGTERM", SIGTERM}};

TaskOutcome bad_crash(std::string_view why) {
  return TaskOutcome::failed("bad_payload", "crash wants " + std::string(why), false);
}

TaskOutcome crash(Task& task) {
  nlohmann::json asked = nlohmann::json::object();
  if (!task.payload().empty()) {
    const auto body = payload_as_json(task.content_type(), task.payload());
    if (!body || !body->is_object()) return bad_crash(R"({"signal": "SIGSEGV", "attempts": N})");
    asked = *body;
  }
  const nlohmann::json name = asked.value("signal", nlohmann::json("SIGSEGV"));
  const auto* const deadly = std::ranges::find_if(kDeadlySignals, [&](const DeadlySignal& signal) {
    return name.is_string() && name.get<std::string>() == signal.name;
  });
  if (deadly == kDeadlySignals.end()) return bad_crash("a \"signal\" that ends a process");
  const nlohmann::json attempts = asked.value("attempts", nlohmann::json(UINT64_MAX));
  if (!attempts.is_number_unsigned()) return bad_crash("\"attempts\": N");
  if (task.attempt() > attempts.get<std::uint64_t>()) return std::to_string(task.attempt());
  std::fprintf(stderr, "raising %s, as asked\n", deadly->name);
  ::raise(deadly->number);
  std::abort();  // something before us has taken the signal for itself
}

}  // namespace

Handlers builtin_handlers() {
  return {{"echo", make_handler(echo)},
          {"noop", make_handler(noop)},
          {"sleep", make_handler(sleep)},
          {"count", make_handler(count)},
          {"fail", make_handler(fail_as_asked)}};
}

Handlers crashing_handlers() {
  return {{std::string(kCrashTask), make_handler(crash)}};
}

}  // namespace sluice
