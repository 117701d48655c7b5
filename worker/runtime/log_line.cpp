#include "worker/runtime/log_line.h"

#include <string>

namespace sluice {

namespace {

std::string attempt_of(const AttemptKey& key) {
  return std::to_string(key.fence.attempt);
}

void say(const AttemptStarted& fact) {
  log_line(LogLevel::debug,
           "attempt_started",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}, {"task", fact.task}});
}

void say(const AttemptStopping& fact) {
  log_line(LogLevel::info,
           "attempt_stopping",
           {{"job", fact.key.id.str()},
            {"attempt", attempt_of(fact.key)},
            {"reason", std::string(to_string(fact.reason))}});
}

void say(const AttemptEnded& fact) {
  const LogLevel level = fact.outcome == Outcome::completed ? LogLevel::debug : LogLevel::info;
  if (!log::is_on(level)) return;
  if (!fact.error_code.empty()) {  // failed, or handed back because something is short here
    const bool is_failed = fact.outcome == Outcome::failed;
    log_line(is_failed ? level : LogLevel::warn,
             is_failed ? "attempt_failed" : "attempt_handed_back",
             {{"job", fact.key.id.str()},
              {"attempt", attempt_of(fact.key)},
              {"error_code", fact.error_code},
              {"error", fact.error.substr(0, 200)}});
    return;
  }
  const std::string_view event = fact.outcome == Outcome::completed   ? "attempt_completed"
                                 : fact.outcome == Outcome::cancelled ? "attempt_cancelled"
                                                                      : "attempt_handed_back";
  log_line(level, event, {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}});
}

void say(const ResultRecorded& fact) {
  if (!fact.is_stale) return;
  log_line(LogLevel::warn,
           "result_stale",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}});
}

void say(const AttemptDropped& fact) {
  log_line(LogLevel::warn,
           "attempt_dropped",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}});
}

void say(const BrokerWelcomed& fact) {
  log_line(LogLevel::info, "broker_welcomed", {{"epoch", std::to_string(fact.epoch)}});
}

void say(const BrokerLost& fact) {
  log_line(LogLevel::warn,
           "broker_lost",
           {{"running", std::to_string(fact.running_count)},
            {"unacknowledged", std::to_string(fact.unacknowledged_count)},
            {"what_next", "what runs goes on; results are kept until the broker is back"}});
}

void say(const BrokerRefused& fact) {
  log_line(LogLevel::error,
           "broker_refused",
           {{"field", fact.error.where}, {"detail", fact.error.detail}});
}

void say(const OldMessageIgnored& fact) {
  log_line(LogLevel::debug,
           "old_message_ignored",
           {{"epoch", std::to_string(fact.number.epoch)}, {"n", std::to_string(fact.number.n)}});
}

void say(const DrainBegun& fact) {
  log_line(LogLevel::info,
           "drain_begun",
           {{"why", fact.why}, {"running", std::to_string(fact.running_count)}});
}

void say(const ConcurrencyChanged& fact) {
  log_line(LogLevel::info,
           "concurrency_changed",
           {{"concurrency", std::to_string(fact.concurrency)}});
}

void say(const NodeLeaving& fact) {
  log_line(fact.unacknowledged_count == 0 ? LogLevel::info : LogLevel::warn,
           "node_leaving",
           {{"unacknowledged", std::to_string(fact.unacknowledged_count)}});
}

}  // namespace

void log_line(LogLevel level, std::string_view event, LogFields fields) {
  log::write(level, event, fields);
}

void log_fact(const WorkerFact& fact) {
  std::visit([](const auto& happened) { say(happened); }, fact);
}

}  // namespace sluice
