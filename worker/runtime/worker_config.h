// The configuration of sluice-worker: flag = environment SLUICE_... = TOML key, in this order of
// precedence; worker/README.md has the table.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "worker/runtime/node.h"
#include "worker/runtime/task_table.h"

namespace sluice {

struct WorkerConfig {
  NodeOptions node;
  std::vector<TaskSettings> tasks;
  std::string log_level = "info";
  bool is_check_only = false;
  std::optional<int> exit_code;  // --help, --version and what the parser refused: it said why
};

// Errors: bad_field with the flag, file or key in `where`.
[[nodiscard]] Result<WorkerConfig> read_worker_config(int argc, const char* const* argv);

// One line on the log with everything that is in force.
void print_effective(const WorkerConfig& config, const TaskTable& table);

}  // namespace sluice
