#include "worker/runtime/worker_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "common/address.h"
#include "common/ids.h"
#include "common/limits.h"
#include "worker/runtime/builtin_tasks.h"

#include <CLI/CLI.hpp>
#include <toml++/toml.h>

namespace sluice {

namespace {

constexpr std::int64_t kDayMs = 24LL * 3600 * 1000;

// ---------------------------------------------------------------- [task.NAME]

std::optional<TaskSettings::Value> to_value(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  if (const auto* flag = node.as_boolean()) return flag->get();
  if (const auto* real = node.as_floating_point()) return real->get();
  if (const auto* list = node.as_array()) {
    TaskSettings::Texts texts;
    for (const toml::node& item : *list) {
      if (!item.is_string()) return std::nullopt;
      texts.push_back(item.as_string()->get());
    }
    return texts;
  }
  if (const auto* table = node.as_table()) {
    TaskSettings::TextMap map;
    for (const auto& [key, item] : *table) {
      if (!item.is_string()) return std::nullopt;
      map[std::string(key.str())] = item.as_string()->get();
    }
    return map;
  }
  return std::nullopt;
}

using TaskValues = std::map<std::string, TaskSettings::Value>;

// The keys of [task.NAME.limits] are settings too, `limits.KEY`.
Result<void> read_settings(const std::string& where,
                           const std::string& prefix,
                           const toml::table& table,
                           TaskValues& values) {
  for (const auto& [key_node, item] : table) {
    const std::string key = prefix + std::string(key_node.str());
    if (key == "limits" && item.is_table()) {
      auto read = read_settings(where, "limits.", *item.as_table(), values);
      if (!read) return read;
      continue;
    }
    auto value = to_value(item);
    if (!value)
      return fail(ErrorCode::bad_field,
                  where + "." + key,
                  "must be a text, number, boolean, list of texts or table of texts");
    values[key] = std::move(*value);
  }
  return {};
}

Result<TaskSettings> read_task(const std::string& name, const toml::node& node) {
  const toml::table* table = node.as_table();
  if (table == nullptr)
    return fail(ErrorCode::bad_field, "task." + name, "must be a table: [task." + name + "]");
  TaskValues values;
  if (auto read = read_settings("task." + name, {}, *table, values); !read)
    return tl::unexpected(read.error());
  return TaskSettings(name, std::move(values));
}

Result<void> take_file(const std::string& task_toml, WorkerConfig& config) {
  const toml::table file = toml::parse(task_toml);  // ConfigTable wrote it: it is valid
  const toml::table* tasks = file["task"].as_table();
  if (tasks == nullptr) {
    if (task_toml.empty()) return {};
    return fail(ErrorCode::bad_field, "task", "must be [task.NAME] tables");
  }
  for (const auto& [name, node] : *tasks) {
    auto task = read_task(std::string(name.str()), node);
    if (!task) return tl::unexpected(task.error());
    config.tasks.push_back(std::move(*task));
  }
  return {};
}

// ---------------------------------------------------------------- flags

Result<void> take_programs(const WorkerOptions& options, WorkerConfig& config) {
  for (const std::string& text : options.programs) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals + 1 == text.size())
      return fail(ErrorCode::bad_field, "--task", "must be NAME=PROGRAM ARGUMENTS, not " + text);
    TaskSettings::Texts argv = CLI::detail::split_up(text.substr(equals + 1));
    config.tasks.emplace_back(
        text.substr(0, equals),
        std::map<std::string, TaskSettings::Value>{{"run", std::string("exec")},
                                                   {"program", std::move(argv)}});
  }
  return {};
}

void take_on_thread(const std::string& task, WorkerConfig& config) {
  config.tasks.emplace_back(
      task,
      std::map<std::string, TaskSettings::Value>{{"run", std::string("thread")}});
}

void take_own(const std::vector<std::string>& own_tasks, WorkerConfig& config) {
  for (const std::string& task : own_tasks)
    if (std::ranges::none_of(config.tasks,
                             [&](const TaskSettings& other) { return other.task() == task; }))
      take_on_thread(task, config);
}

Result<void> take_builtins(const WorkerOptions& options, WorkerConfig& config) {
  std::vector<std::string> names = options.builtins;
  if (names.empty() && config.tasks.empty())
    names.assign(kBuiltinTasks.begin(), kBuiltinTasks.end());
  for (const std::string& name : names) {
    if (name == kCrashTask)
      return fail(
          ErrorCode::bad_field,
          "--builtin",
          "crash ends the process that it runs in: it wants a table [task.crash] with run = "
          "\"isolate\"");
    if (std::ranges::find(kBuiltinTasks, name) == kBuiltinTasks.end())
      return fail(ErrorCode::bad_field,
                  "--builtin",
                  fmt::format("{} is none; there are {}", name, fmt::join(kBuiltinTasks, ", ")));
    take_on_thread(name, config);
  }
  return {};
}

Result<void> take_labels(const WorkerOptions& options, WorkerConfig& config) {
  for (const std::string& label : options.labels) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorCode::bad_field, "--label", "must be KEY=VALUE, not " + label);
    config.node.labels.push_back({label.substr(0, equals), label.substr(equals + 1)});
  }
  if (config.node.labels.size() > kLabelsPerNodeMax)
    return fail(ErrorCode::bad_field, "--label", "at most 32 labels");
  return {};
}

Result<void> take_node(const WorkerOptions& options, WorkerConfig& config) {
  const std::string& broker = options.broker;
  if (!is_address(broker, AddressUse::connect))
    return fail(ErrorCode::bad_field, "--broker", "must be tcp://HOST:PORT, not " + broker);
  if (!options.name.empty() && !is_name(options.name))
    return fail(ErrorCode::bad_field, "--name", "a name is [A-Za-z0-9_.-]{1,64}: " + options.name);
  for (const std::string& queue : options.queues)
    if (!is_name(queue))
      return fail(ErrorCode::bad_field, "--queues", "a queue is [A-Za-z0-9_.-]{1,64}: " + queue);
  config.node.broker = broker;
  config.node.name = options.name;
  config.node.concurrency = options.concurrency;
  config.node.queues = options.queues;
  config.node.drain_grace_ms = options.drain_grace_ms;
  config.node.state_dir = options.state_dir;
  return {};
}

constexpr const char* kExamples =
    "Without any task it offers echo, noop, sleep, count and fail, for a first look; in an isolate "
    "(a\n[task.crash] with run = \"isolate\") crash as well.\n"
    "\nExamples:\n"
    "  sluice-worker --concurrency 4 --task checksum=sha256sum\n"
    "  sluice-worker --config node.toml --name files-1 --state-dir /var/lib/sluice-files-1\n";

constexpr const char* kLeaving =
    "SIGTERM lets it finish what runs within --drain-grace; a second one ends it at once.\n\n"
    "Exit status: 0 left in order, 1 could not begin, 2 wrong configuration, 5 left with results "
    "that\nnobody acknowledged (the broker runs those jobs again), 70 a runtime broke.\n"
    "Of --check: 0 the node is well, 1 none answers, 69 it has no broker.\n";

}  // namespace

void describe(ConfigTable& table, WorkerOptions& options, Builtins builtins) {
  table.add_request("--check", &options.is_asked, "ask the running node how it is, and leave");
  table.group("Where it works");
  table.add_string("broker", &options.broker, "the workers' port of the broker");
  // SLUICE_BROKER is the producers' port, for clients.
  table.set_environment("broker", "SLUICE_WORKER_BROKER");
  table.add_string("name", &options.name, "how people see this node; empty = the host's name");
  table.add_list("label", &options.labels, "KEY=VALUE, shown with the node; several times");
  table.add_string("state_dir",
                   &options.state_dir,
                   "directory that remembers this node's life; empty = none");
  table.group("What it does");
  table.add_integer("concurrency",
                    &options.concurrency,
                    {0, kConcurrencyMax},
                    "attempts at once; 0 = the CPUs that this process may use");
  table.add_list("queues", &options.queues, "only jobs of these queues; empty = every queue");
  table.add_texts("task",
                  &options.programs,
                  "NAME=PROGRAM ARGUMENTS: a program per job; several times");
  // Programs of this node see SLUICE_TASK: a worker started by one must not take it for a flag.
  table.set_environment("task", "");
  if (builtins == Builtins::offered)
    table.add_list("builtin", &options.builtins, "offer echo, noop, sleep, count or fail");
  table.allow_subtree("task", "a task and how it is run, see worker/README.md");
  table.add_duration("drain_grace",
                     &options.drain_grace_ms,
                     {0, kDayMs},
                     "for what runs at SIGTERM; then it is handed back");
  table.add_choice("cgroups",
                   &options.cgroups,
                   {"auto", "off", "required"},
                   "whether cgroups hold programs and isolates to their limits");
  table.group("Logs");
  table.add_choice("log_level",
                   &options.log_level,
                   {"debug", "info", "warn", "error", "off"},
                   "least level that is written");
  table.add_choice("log_format", &options.log_format, {"logfmt", "json"}, "form of a line");
  table.set_epilog((builtins == Builtins::offered ? std::string(kExamples) : "") + kLeaving);
}

Result<WorkerConfig> worker_config(const WorkerOptions& options,
                                   const std::string& task_toml,
                                   const std::vector<std::string>& own_tasks) {
  WorkerConfig config;
  if (auto taken = take_file(task_toml, config); !taken) return tl::unexpected(taken.error());
  if (auto taken = take_programs(options, config); !taken) return tl::unexpected(taken.error());
  take_own(own_tasks, config);
  if (auto taken = take_builtins(options, config); !taken) return tl::unexpected(taken.error());
  if (auto taken = take_node(options, config); !taken) return tl::unexpected(taken.error());
  if (auto taken = take_labels(options, config); !taken) return tl::unexpected(taken.error());
  config.node = with_defaults(std::move(config.node));
  return config;
}

CgroupsWanted cgroups_wanted(const WorkerOptions& options) {
  if (options.cgroups == "off") return CgroupsWanted::off;
  return options.cgroups == "required" ? CgroupsWanted::required : CgroupsWanted::automatic;
}

log::Options log_options(const WorkerOptions& options) {
  log::Options result;
  (void)log::parse_level(options.log_level, result.level);
  (void)log::parse_format(options.log_format, result.format);
  return result;
}

}  // namespace sluice
