// `sluice workers` and `drain`.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

Json isolates_to_json(const std::vector<IsolateFigures>& all) {
  Json json = Json::array();
  for (const IsolateFigures& isolates : all)
    json.push_back(
        {{"task", isolates.task},
         {"total", isolates.total},
         {"busy", isolates.busy},
         {"available", isolates.total - std::min(isolates.busy, isolates.total)},
         {"utilisation", isolates.total == 0 ? 0.0 : 1.0 * isolates.busy / isolates.total},
         {"waiting", isolates.waiting},
         {"jobs", isolates.jobs},
         {"crashes", isolates.crashes},
         {"recycles", isolates.recycles},
         {"busy_ms", isolates.busy_ms}});
  return json;
}

// Of the isolates there are: how many are at work.
std::string utilisation(const IsolateFigures& isolates) {
  if (isolates.total == 0) return "-";
  return fmt::format("{} %", std::uint64_t{100} * isolates.busy / isolates.total);
}

void print_isolates(const std::vector<NodeInfo>& nodes) {
  Table table({"processes of",
               "task",
               ">total",
               ">busy",
               ">available",
               ">utilised",
               ">waiting",
               ">jobs",
               ">crashes",
               ">recycled"});
  for (const NodeInfo& node : nodes)
    for (const IsolateFigures& isolates : node.isolates)
      table.add({node.node,
                 isolates.task,
                 std::to_string(isolates.total),
                 std::to_string(isolates.busy),
                 std::to_string(isolates.total - std::min(isolates.busy, isolates.total)),
                 utilisation(isolates),
                 std::to_string(isolates.waiting),
                 std::to_string(isolates.jobs),
                 std::to_string(isolates.crashes),
                 std::to_string(isolates.recycles)});
  if (!table.empty()) fmt::print("\n{}", table.str(use_colours()));
}

Json node_to_json(const NodeInfo& node) {
  Json labels = Json::object();
  for (const Header& label : node.labels)
    labels[label.name] = label.value;
  return {{"node", node.node},
          {"concurrency", node.concurrency},
          {"running", node.running},
          {"free", node.free},
          {"tasks", node.tasks},
          {"queues", node.queues},
          {"labels", std::move(labels)},
          {"draining", node.draining},
          {"version", node.version},
          {"last_seen_ms", node.last_seen_ms},
          {"completed", node.completed},
          {"failed", node.failed},
          {"isolates", isolates_to_json(node.isolates)}};
}

int workers(Cli& cli) {
  auto answer = cli.client().workers();
  if (!answer) return cli.fail(answer.error());
  if (cli.is_json) {
    Json all = Json::array();
    for (const NodeInfo& node : answer->workers)
      all.push_back(node_to_json(node));
    print_json({{"workers", std::move(all)}});
    return kExitOk;
  }
  Table table(
      {"node", ">running", ">slots", ">completed", ">failed", ">heard", "tasks", "queues", ""});
  for (const NodeInfo& node : answer->workers)
    table.add({node.node,
               std::to_string(node.running),
               std::to_string(node.concurrency),
               std::to_string(node.completed),
               std::to_string(node.failed),
               span_text(node.last_seen_ms) + " ago",
               printable(fmt::format("{}", fmt::join(node.tasks, ","))),
               node.queues.empty() ? "all" : fmt::format("{}", fmt::join(node.queues, ",")),
               node.draining ? "draining" : ""});
  fmt::print("{}",
             table.empty() ? "no worker is connected: start one with `sluice-worker`\n"
                           : table.str(use_colours()));
  print_isolates(answer->workers);
  return kExitOk;
}

}  // namespace

void add_workers(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("workers", "Nodes, their slots and what they offer");
  set_footer(
      *command,
      "Examples:\n  sluice workers\n"
      "  sluice workers --json | jq '[.workers[].free] | add'\n\n"
      "slots: attempts at once; running: slots taken; heard: since its last sign of life; "
      "completed and\nfailed: attempts since the broker started. In JSON last_seen_ms is in "
      "milliseconds.\nprocesses (isolates and kept programs), by task, as the node's last "
      "heartbeat said: total\nand busy now, utilised: busy of total, waiting: jobs that found "
      "none; jobs, crashes and recycled\nsince the node started. In JSON available is total less "
      "busy, utilisation 0 to 1, and busy_ms the time\nthat they were at work, all together.\n"
      "Exit status: 0 done, also when no node is connected.");
  command->callback([&cli] { cli.exit_code = workers(cli); });

  auto* drain = app.add_subcommand("drain", "Ask a node to take no more jobs and leave");
  auto node = std::make_shared<std::string>();
  drain->add_option("NODE", *node, "node id, or a name that only one node has")
      ->type_name("")
      ->required();
  set_footer(*drain,
             "Examples:\n  sluice drain files-1\n  sluice drain files-1@4f2a9c1e\n\n"
             "It finishes what runs, within its --drain-grace (25s), hands the rest back, and its "
             "process ends.\nExit status: 0 asked, 1 more than one node has this name, 4 no such "
             "node.");
  drain->callback([&cli, node] {
    auto done = cli.client().drain(*node);
    if (!done)
      cli.exit_code = cli.fail(done.error());
    else if (cli.is_json)
      print_json({{"node", *node}, {"done", done->op}});
    else
      fmt::print("{}: asked to drain; `sluice workers` shows when it has left\n", *node);
  });
}

}  // namespace sluice::cli
