// Log lines of the worker's shell: `event key=value ...` (conventions.md, Logging).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "worker/core/output.h"

namespace sluice {

enum class LogLevel : std::uint8_t {
  debug,
  info,
  warn,
  error
};

using LogFields = std::initializer_list<std::pair<std::string_view, std::string>>;

void log_line(LogLevel level, std::string_view event, LogFields fields);
// One line per fact. Never payloads or results.
void log_fact(const WorkerFact& fact);

}  // namespace sluice
