// sluice-worker: a worker node from flags, environment and a TOML file.
#include <cstdio>
#include <exception>

#include "common/config.h"
#include "common/process.h"
#include "worker/runtime/builtin_tasks.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/log_line.h"
#include "worker/runtime/node.h"
#include "worker/runtime/task_table.h"
#include "worker/runtime/worker_config.h"
#include "worker/tasks/analysis.h"
#include "worker/tasks/http.h"

namespace {

using namespace sluice;

// Every kind of runtime that this program knows (`run = ...`).
TaskTable make_table() {
  auto threads = std::make_unique<ThreadRuntimeBuilder>();
  add_builtin_handlers(*threads);
  TaskTable tasks;
  tasks.add_kind("thread", std::move(threads));
  tasks.add_kind("exec", std::make_unique<ExecRuntimeBuilder>());
  tasks.add_kind("http", std::make_unique<HttpRuntimeBuilder>());
  tasks.add_kind("analysis", std::make_unique<AnalysisRuntimeBuilder>());
  return tasks;
}

// What is in force. The log has no thread of its own: the spawner is not forked yet.
void say_effective(const ConfigTable& table, const TaskTable& tasks) {
  for (const std::string& line : table.effective())
    log_line(LogLevel::info, "config", {{"option", line}});
  std::string names;
  for (const std::string& task : tasks.tasks())
    names += (names.empty() ? "" : ",") + task;
  log_line(LogLevel::info, "config", {{"tasks", names}});
}

int run(int argc, char** argv) {
  WorkerOptions options;
  ConfigTable table("sluice-worker",
                    "A worker node of a Sluice cluster: takes jobs from a broker and runs them.");
  describe(table, options);
  const auto action = table.parse(argc, argv);
  if (!action) return table.explain(action.error());
  if (action->is_final) return action->exit_code;
  auto config = worker_config(options, table.subtree("task"));
  if (!config) return table.explain(config.error());
  TaskTable tasks = make_table();
  for (TaskSettings& task : config->tasks)
    if (const auto added = tasks.add(std::move(task)); !added) return table.explain(added.error());
  if (action->is_check) {
    table.confirm();
    return node_drained;
  }
  log::set_up(log_options(options));
  say_effective(table, tasks);
  return run_node(config->node, tasks);
}

}  // namespace

int main(int argc, char** argv) {
  sluice::fill_closed_descriptors();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-worker: %s\n", error.what());
    return sluice::node_failed;
  }
}
