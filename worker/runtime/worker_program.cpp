#include "worker/runtime/worker_program.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/utf8.h"
#include "worker/runtime/cgroup_choice.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/first_process.h"
#include "worker/runtime/health.h"
#include "worker/runtime/isolate_runtime.h"
#include "worker/runtime/kept_runtime.h"
#include "worker/runtime/log_line.h"
#include "worker/runtime/node.h"
#include "worker/runtime/task_table.h"
#include "worker/runtime/thread_runtime.h"
#include "worker/tasks/analysis.h"
#include "worker/tasks/http.h"

namespace sluice {

namespace {

// Every kind of runtime that there is (`run = ...`). Both maps must outlive the table.
void add_kinds(TaskTable& tasks, const WorkerProgram& program, const Handlers& in_isolates) {
  tasks.add_kind("thread",
                 std::make_unique<ThreadRuntimeBuilder>(program.handlers,
                                                        StartThread{},
                                                        program.for_isolates));
  tasks.add_kind("isolate", std::make_unique<IsolateRuntimeBuilder>(in_isolates));
  tasks.add_kind("exec", std::make_unique<ExecRuntimeBuilder>());
  tasks.add_kind("kept", std::make_unique<KeptRuntimeBuilder>());
  tasks.add_kind("http", std::make_unique<HttpRuntimeBuilder>());
  tasks.add_kind("analysis", std::make_unique<AnalysisRuntimeBuilder>());
}

std::vector<std::string> own_tasks(const WorkerProgram& program) {
  std::vector<std::string> names;
  if (program.offers_all)
    for (const auto& [name, handler] : program.handlers)
      names.push_back(name);
  return names;
}

Result<void> add_tasks(TaskTable& tasks, std::vector<TaskSettings> all) {
  for (TaskSettings& task : all)
    if (auto added = tasks.add(std::move(task)); !added) return added;
  return {};
}

void log_doubts(const TaskTable& tasks) {
  for (const Error& doubt : tasks.doubts())
    log_line(LogLevel::warn, "task_doubtful", {{"setting", doubt.where}, {"reason", doubt.detail}});
}

// The task table as it is configured now: the file is read once more.
Result<std::unique_ptr<TaskTable>> read_tasks(int argc,
                                              const char* const* argv,
                                              const WorkerProgram& program,
                                              const Handlers& in_isolates,
                                              const TaskTable& before) {
  WorkerOptions options;
  ConfigTable table(program.name, program.purpose);
  describe(table, options, program.offers_all ? Builtins::none : Builtins::offered);
  const auto action = table.parse(argc, argv);
  if (!action) return tl::unexpected(action.error());
  if (program.decide) program.decide(options);
  auto config = worker_config(options, table.subtree("task"), own_tasks(program));
  if (!config) return tl::unexpected(config.error());
  auto tasks = before.make_successor();
  add_kinds(*tasks, program, in_isolates);
  if (auto added = add_tasks(*tasks, std::move(config->tasks)); !added)
    return tl::unexpected(added.error());
  log_doubts(*tasks);
  return tasks;
}

// What is in force. The log has no thread of its own: the spawner is not forked yet.
void say_effective(const ConfigTable& table, const TaskTable& tasks, const CgroupChoice& groups) {
  for (const std::string& line : table.effective())
    log_line(LogLevel::info, "config", {{"option", line}});
  std::string names;
  for (const std::string& task : tasks.tasks())
    names += (names.empty() ? "" : ",") + task;
  log_line(LogLevel::info, "config", {{"tasks", names}});
  log_line(LogLevel::info,
           "config",
           {{"limits_held_by", groups.place ? "cgroups" : "rlimits"}, {"reason", groups.reason}});
}

// Of --check-config, which has no log.
void warn_of_doubts(const std::string& program, const TaskTable& tasks) {
  for (const Error& doubt : tasks.doubts())
    std::fprintf(stderr,
                 "%s: doubtful: %s\n",
                 program.c_str(),
                 printable(doubt.where + ": " + doubt.detail).c_str());
}

constexpr int kAskMs = 5'000;

// --check: of the node that runs with these settings.
int ask_node(const std::string& program, const NodeOptions& node) {
  const auto line = ask_health(health_place(node.name, node.state_dir), kAskMs);
  if (!line) {
    std::fprintf(stderr,
                 "%s: %s: %s\n",
                 program.c_str(),
                 printable(line.error().where).c_str(),
                 line.error().detail.c_str());
    return node_failed;
  }
  std::puts(printable(*line).c_str());
  return line->find(" connected=yes ") == std::string::npos ? int{kExitUnavailable} : node_drained;
}

int configure_and_run(int argc, const char* const* argv, const WorkerProgram& program) {
  WorkerOptions options;
  ConfigTable table(program.name, program.purpose);
  describe(table, options, program.offers_all ? Builtins::none : Builtins::offered);
  const auto action = table.parse(argc, argv);
  if (!action) return table.explain(action.error());
  if (action->is_final) return action->exit_code;
  if (program.decide) program.decide(options);
  auto config = worker_config(options, table.subtree("task"), own_tasks(program));
  if (!config) return table.explain(config.error());
  if (options.is_asked) return ask_node(program.name, config->node);
  Handlers in_isolates = program.handlers;
  in_isolates.insert(program.for_isolates.begin(), program.for_isolates.end());
  const CgroupsWanted wanted = cgroups_wanted(options);
  const auto groups = action->is_check ? choose_cgroups(wanted, cgroup_facts())
                                       : take_up_cgroups(wanted, cgroup_facts());
  if (!groups) return table.explain(groups.error());
  auto tasks = std::make_unique<TaskTable>();
  tasks->set_groups(groups->place);
  tasks->set_concurrency(config->node.concurrency);
  add_kinds(*tasks, program, in_isolates);
  std::vector<std::string> lines;
  for (const TaskSettings& task : config->tasks)
    std::ranges::move(task.lines(), std::back_inserter(lines));
  if (const auto added = add_tasks(*tasks, std::move(config->tasks)); !added)
    return table.explain(added.error());
  if (action->is_check) {
    table.confirm(lines);
    warn_of_doubts(program.name, *tasks);
    return node_drained;
  }
  step_below_first_process();
  log::set_up(log_options(options));
  say_effective(table, *tasks, *groups);
  log_doubts(*tasks);
  return run_node(config->node, std::move(tasks), [&](const TaskTable& before) {
    return read_tasks(argc, argv, program, in_isolates, before);
  });
}

}  // namespace

int run_worker(int argc, const char* const* argv, const WorkerProgram& program) {
  try {
    return configure_and_run(argc, argv, program);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program.name.c_str(), printable(error.what()).c_str());
    return node_failed;
  }
}

}  // namespace sluice
