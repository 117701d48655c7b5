// The configuration of sluice-worker: one table, flag = environment SLUICE_... = TOML key = help;
// worker/README.md shows it. The [task.NAME] tables of the file are read here as well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/log.h"
#include "common/result.h"
#include "worker/runtime/cgroup_choice.h"
#include "worker/runtime/node.h"
#include "worker/runtime/task_table.h"

namespace sluice {

// What the table fills in.
struct WorkerOptions {
  std::string broker = "tcp://127.0.0.1:7712";
  std::string name;
  std::uint32_t concurrency = 0;
  std::vector<std::string> queues;
  std::vector<std::string> labels;    // KEY=VALUE
  std::vector<std::string> programs;  // --task NAME=PROGRAM ARGUMENTS
  std::vector<std::string> builtins;
  std::string state_dir;
  std::int64_t drain_grace_ms = kDrainGraceDefaultMs;
  std::string cgroups = "auto";
  std::string log_level = "info";
  std::string log_format = "logfmt";
  bool is_asked = false;  // --check
};

struct WorkerConfig {
  NodeOptions node;
  std::vector<TaskSettings> tasks;
};

// Whether the built-in tasks are among what is offered (--builtin).
enum class Builtins : std::uint8_t {
  offered,
  none
};

// Adds every option to the table; `options` must outlive it.
void describe(ConfigTable& table, WorkerOptions& options, Builtins builtins = Builtins::offered);

// What the table alone cannot check, and the tasks: those of the file (`task_toml`, as
// ConfigTable::subtree("task") gives it), of --task and of --builtin. Of `own_tasks`, the program's
// handlers, those that the file does not name run on threads; without any of its own, and without
// another task, the four built-in ones are offered. Errors: bad_field with the flag or the key in
// `where`.
[[nodiscard]] Result<WorkerConfig> worker_config(const WorkerOptions& options,
                                                 const std::string& task_toml,
                                                 const std::vector<std::string>& own_tasks = {});

[[nodiscard]] CgroupsWanted cgroups_wanted(const WorkerOptions& options);

[[nodiscard]] log::Options log_options(const WorkerOptions& options);

}  // namespace sluice
