#include "worker/runtime/log_line.h"

#include <spdlog/spdlog.h>

namespace sluice {

namespace {

// logfmt: quoted when it must be.
std::string quoted(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"=\\\n\r\t") == std::string::npos) return value;
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text + "\"";
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool is_wanted(LogLevel level) {
  return spdlog::should_log(spdlog_level(level));
}

std::string attempt_of(const AttemptKey& key) {
  return std::to_string(key.fence.attempt);
}

void log(const AttemptStarted& fact) {
  log_line(LogLevel::debug,
           "attempt_started",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}, {"task", fact.task}});
}

void log(const AttemptStopping& fact) {
  log_line(LogLevel::info,
           "attempt_stopping",
           {{"job", fact.key.id.str()},
            {"attempt", attempt_of(fact.key)},
            {"reason", std::string(to_string(fact.reason))}});
}

void log(const AttemptEnded& fact) {
  const LogLevel level = fact.outcome == Outcome::completed ? LogLevel::debug : LogLevel::info;
  if (!is_wanted(level)) return;
  if (fact.outcome == Outcome::failed) {
    log_line(level,
             "attempt_failed",
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

void log(const ResultRecorded& fact) {
  if (!fact.is_stale) return;
  log_line(LogLevel::warn,
           "result_stale",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}});
}

void log(const AttemptDropped& fact) {
  log_line(LogLevel::warn,
           "attempt_dropped",
           {{"job", fact.key.id.str()}, {"attempt", attempt_of(fact.key)}});
}

void log(const BrokerWelcomed& fact) {
  log_line(LogLevel::info, "broker_welcomed", {{"epoch", std::to_string(fact.epoch)}});
}

void log(const BrokerLost& fact) {
  log_line(LogLevel::warn,
           "broker_lost",
           {{"running", std::to_string(fact.running_count)},
            {"unacknowledged", std::to_string(fact.unacknowledged_count)},
            {"what_next", "what runs goes on; results are kept until the broker is back"}});
}

void log(const BrokerRefused& fact) {
  log_line(LogLevel::error,
           "broker_refused",
           {{"field", fact.error.where}, {"detail", fact.error.detail}});
}

void log(const OldMessageIgnored& fact) {
  log_line(LogLevel::debug,
           "old_message_ignored",
           {{"epoch", std::to_string(fact.number.epoch)}, {"n", std::to_string(fact.number.n)}});
}

void log(const DrainBegun& fact) {
  log_line(LogLevel::info,
           "drain_begun",
           {{"why", fact.why}, {"running", std::to_string(fact.running_count)}});
}

void log(const ConcurrencyChanged& fact) {
  log_line(LogLevel::info,
           "concurrency_changed",
           {{"concurrency", std::to_string(fact.concurrency)}});
}

void log(const NodeLeaving& fact) {
  log_line(fact.unacknowledged_count == 0 ? LogLevel::info : LogLevel::warn,
           "node_leaving",
           {{"unacknowledged", std::to_string(fact.unacknowledged_count)}});
}

}  // namespace

void log_line(LogLevel level, std::string_view event, LogFields fields) {
  if (!is_wanted(level)) return;
  std::string line(event);
  for (const auto& [key, value] : fields)
    if (!value.empty()) line.append(" ").append(key).append("=").append(quoted(value));
  spdlog::log(spdlog_level(level), "{}", line);
}

void log_fact(const WorkerFact& fact) {
  std::visit([](const auto& happened) { log(happened); }, fact);
}

}  // namespace sluice
