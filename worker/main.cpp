// sluice-worker: a worker node from flags, environment and a TOML file.
#include <cstdio>
#include <exception>

#include "worker/runtime/builtin_tasks.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/node.h"
#include "worker/runtime/task_table.h"
#include "worker/runtime/worker_config.h"
#include "worker/tasks/analysis.h"
#include "worker/tasks/http.h"

namespace {

// Every kind of runtime that this program knows (`run = ...`).
sluice::TaskTable make_table() {
  auto threads = std::make_unique<sluice::ThreadRuntimeBuilder>();
  sluice::add_builtin_handlers(*threads);
  sluice::TaskTable table;
  table.add_kind("thread", std::move(threads));
  table.add_kind("exec", std::make_unique<sluice::ExecRuntimeBuilder>());
  table.add_kind("http", std::make_unique<sluice::HttpRuntimeBuilder>());
  table.add_kind("analysis", std::make_unique<sluice::AnalysisRuntimeBuilder>());
  return table;
}

int complain(const sluice::Error& error) {
  std::fprintf(stderr, "sluice-worker: %s: %s\n", error.where.c_str(), error.detail.c_str());
  return sluice::node_misconfigured;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    auto config = sluice::read_worker_config(argc, argv);
    if (!config) return complain(config.error());
    if (config->exit_code) return *config->exit_code;
    sluice::TaskTable table = make_table();
    for (sluice::TaskSettings& task : config->tasks)
      if (const auto added = table.add(std::move(task)); !added) return complain(added.error());
    sluice::print_effective(*config, table);
    if (config->is_check_only) return 0;
    return sluice::run_node(config->node, table);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-worker: %s\n", error.what());
    return sluice::node_failed;
  }
}
