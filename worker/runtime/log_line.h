// Log lines of the worker's shell: `event key=value ...` (conventions.md, Logging).
#pragma once

#include <string_view>

#include "common/log.h"
#include "worker/core/output.h"

namespace sluice {

using LogLevel = log::Level;
using LogFields = log::Fields;

void log_line(LogLevel level, std::string_view event, LogFields fields);
// One line per fact. Never payloads or results.
void log_fact(const WorkerFact& fact);

}  // namespace sluice
