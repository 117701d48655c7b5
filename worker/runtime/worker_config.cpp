#include "worker/runtime/worker_config.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/ids.h"
#include "common/limits.h"
#include "worker/runtime/log_line.h"

#include <CLI/CLI.hpp>
#include <toml++/toml.h>

namespace sluice {

namespace {

// What flags and environment said; empty = not said.
struct Flags {
  std::string config_file;
  std::string broker;
  std::string name;
  std::string state_dir;
  std::string log_level;
  std::optional<std::uint32_t> concurrency;
  std::optional<std::int64_t> drain_grace_s;
  std::vector<std::string> queues;
  std::vector<std::string> labels;
  std::vector<std::string> tasks;
  std::vector<std::string> builtins;
};

bool is_plain_name(const std::string& text) {
  return !text.empty() && text.size() <= kNameBytesMax &&
         text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
             "0123456789_.-") == std::string::npos;
}

void declare(CLI::App& app, Flags& flags, WorkerConfig& config) {
  app.set_version_flag("--version", std::string("sluice-worker ") + SLUICE_VERSION);
  app.add_option("--broker", flags.broker, "Workers' port of the broker (tcp://127.0.0.1:7712)")
      ->envname("SLUICE_WORKER_BROKER");
  app.add_option("--name", flags.name, "How people see this node (the host's name)")
      ->envname("SLUICE_NAME");
  app.add_option("--concurrency", flags.concurrency, "Attempts at once, 1 to 10000 (the CPUs)")
      ->envname("SLUICE_CONCURRENCY");
  app.add_option("--queues", flags.queues, "Only jobs of these queues (every queue)")
      ->delimiter(',')
      ->envname("SLUICE_QUEUES");
  app.add_option("--label", flags.labels, "KEY=VALUE, shown with the node; several times");
  app.add_option("--config", flags.config_file, "TOML file with settings and [task.NAME] tables")
      ->envname("SLUICE_WORKER_CONFIG");
  app.add_option("--task", flags.tasks, "NAME=PROGRAM ARGUMENTS: a program per job; several times")
      ->allow_extra_args(false);
  app.add_option("--builtin", flags.builtins, "Offer echo, noop, sleep or fail")->delimiter(',');
  app.add_option("--state-dir", flags.state_dir, "Directory that remembers this node's life")
      ->envname("SLUICE_STATE_DIR");
  app.add_option("--drain-grace", flags.drain_grace_s, "Seconds for what runs at SIGTERM (25)")
      ->envname("SLUICE_DRAIN_GRACE");
  app.add_option("--log-level", flags.log_level, "debug, info, warn or error (info)")
      ->envname("SLUICE_LOG_LEVEL");
  app.add_flag("--check-config", config.is_check_only, "Say what is in force, and leave");
}

// ---------------------------------------------------------------- the file

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

Result<void> read_task(const std::string& name, const toml::node& node, WorkerConfig& config) {
  const toml::table* table = node.as_table();
  if (table == nullptr)
    return fail(ErrorCode::bad_field, "task." + name, "must be a table: [task." + name + "]");
  std::map<std::string, TaskSettings::Value> values;
  for (const auto& [key, item] : *table) {
    auto value = to_value(item);
    const std::string key_name(key.str());
    if (!value)
      return fail(ErrorCode::bad_field,
                  "task." + name + "." + key_name,
                  "must be a text, number, boolean, list of texts or table of texts");
    values[key_name] = std::move(*value);
  }
  config.tasks.emplace_back(name, std::move(values));
  return {};
}

// A key of the file becomes the flag of its name, unless flag or environment already spoke.
Result<void> read_setting(const std::string& key, const toml::node& node, Flags& flags) {
  const auto value = to_value(node);
  const auto text = [&](std::string& target) {
    const auto* found = value ? std::get_if<std::string>(&*value) : nullptr;
    if (found != nullptr && target.empty()) target = *found;
    return found != nullptr;
  };
  const auto texts = [&](std::vector<std::string>& target) {
    const auto* found = value ? std::get_if<TaskSettings::Texts>(&*value) : nullptr;
    if (found != nullptr && target.empty()) target = *found;
    return found != nullptr;
  };
  const auto* number = value ? std::get_if<std::int64_t>(&*value) : nullptr;
  bool is_taken = false;
  if (key == "broker")
    is_taken = text(flags.broker);
  else if (key == "name")
    is_taken = text(flags.name);
  else if (key == "state_dir")
    is_taken = text(flags.state_dir);
  else if (key == "log_level")
    is_taken = text(flags.log_level);
  else if (key == "queues")
    is_taken = texts(flags.queues);
  else if (key == "builtin")
    is_taken = texts(flags.builtins);
  else if (key == "labels")
    is_taken = texts(flags.labels);
  else if (key == "concurrency" && number != nullptr) {
    is_taken = *number >= 1 && *number <= kConcurrencyMax;
    if (is_taken && !flags.concurrency) flags.concurrency = static_cast<std::uint32_t>(*number);
  } else if (key == "drain_grace" && number != nullptr) {
    is_taken = *number >= 0;
    if (!flags.drain_grace_s) flags.drain_grace_s = *number;
  } else {
    return fail(ErrorCode::bad_field, key, "this setting is not known, or has the wrong type");
  }
  if (!is_taken) return fail(ErrorCode::bad_field, key, "wrong type, or outside its range");
  return {};
}

Result<void> read_file(Flags& flags, WorkerConfig& config) {
  toml::table file;
  try {
    file = toml::parse_file(flags.config_file);
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::bad_field,
                flags.config_file + ":" + std::to_string(error.source().begin.line),
                std::string(error.description()));
  }
  for (const auto& [key, node] : file) {
    const std::string name(key.str());
    if (name != "task") {
      if (auto read = read_setting(name, node, flags); !read) return read;
      continue;
    }
    if (!node.is_table()) return fail(ErrorCode::bad_field, "task", "must be [task.NAME] tables");
    for (const auto& [task, settings] : *node.as_table())
      if (auto read = read_task(std::string(task.str()), settings, config); !read) return read;
  }
  return {};
}

// ---------------------------------------------------------------- flags to options

Result<void> take_task_flag(const std::string& text, WorkerConfig& config) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals + 1 == text.size())
    return fail(ErrorCode::bad_field, "--task", "must be NAME=PROGRAM ARGUMENTS, not " + text);
  TaskSettings::Texts argv = CLI::detail::split_up(text.substr(equals + 1));
  config.tasks.emplace_back(
      text.substr(0, equals),
      std::map<std::string, TaskSettings::Value>{{"run", std::string("exec")},
                                                 {"program", std::move(argv)}});
  return {};
}

void take_builtins(const Flags& flags, WorkerConfig& config) {
  std::vector<std::string> names = flags.builtins;
  if (names.empty() && config.tasks.empty()) names = {"echo", "noop", "sleep", "fail"};
  for (const std::string& name : names)
    config.tasks.emplace_back(
        name,
        std::map<std::string, TaskSettings::Value>{{"run", std::string("thread")}});
}

Result<void> take_labels(const Flags& flags, WorkerConfig& config) {
  for (const std::string& label : flags.labels) {
    const std::size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorCode::bad_field, "--label", "must be KEY=VALUE, not " + label);
    config.node.labels.push_back({label.substr(0, equals), label.substr(equals + 1)});
  }
  if (config.node.labels.size() > kLabelsPerNodeMax)
    return fail(ErrorCode::bad_field, "--label", "at most 32 labels");
  return {};
}

Result<void> take_node(const Flags& flags, WorkerConfig& config) {
  if (!flags.broker.empty()) config.node.broker = flags.broker;
  const std::string& broker = config.node.broker;
  if (!broker.starts_with("ipc://") &&
      !(broker.starts_with("tcp://") && broker.find(':', 6) != std::string::npos))
    return fail(ErrorCode::bad_field, "--broker", "must be tcp://HOST:PORT, not " + broker);
  if (!flags.name.empty() && !is_plain_name(flags.name))
    return fail(ErrorCode::bad_field, "--name", "a name is [A-Za-z0-9_.-]{1,64}: " + flags.name);
  config.node.name = flags.name;
  if (flags.concurrency && (*flags.concurrency < 1 || *flags.concurrency > kConcurrencyMax))
    return fail(ErrorCode::bad_field,
                "--concurrency",
                std::to_string(*flags.concurrency) + " is not within 1 to 10000");
  config.node.concurrency = flags.concurrency.value_or(0);
  const std::int64_t grace_s = flags.drain_grace_s.value_or(kDrainGraceDefaultMs / 1000);
  if (grace_s < 0 || grace_s > 86'400)
    return fail(ErrorCode::bad_field, "--drain-grace", "must be 0 to 86400 seconds");
  config.node.drain_grace_ms = grace_s * 1000;
  for (const std::string& queue : flags.queues)
    if (!is_plain_name(queue))
      return fail(ErrorCode::bad_field, "--queues", "a queue is [A-Za-z0-9_.-]{1,64}: " + queue);
  config.node.queues = flags.queues;
  config.node.state_dir = flags.state_dir;
  return {};
}

// Logs go to stderr. No thread of its own: the spawner is not forked yet.
Result<void> begin_log(const Flags& flags, WorkerConfig& config) {
  if (!flags.log_level.empty()) config.log_level = flags.log_level;
  const std::string& level = config.log_level;
  if (level != "debug" && level != "info" && level != "warn" && level != "error")
    return fail(ErrorCode::bad_field,
                "--log-level",
                "must be debug, info, warn or error: " + level);
  log::Options options;
  (void)log::parse_level(level, options.level);
  log::set_up(options);
  return {};
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts)
    all += (all.empty() ? "" : ",") + text;
  return all;
}

}  // namespace

Result<WorkerConfig> read_worker_config(int argc, const char* const* argv) {
  WorkerConfig config;
  Flags flags;
  CLI::App app("A worker node of a Sluice cluster: takes jobs from a broker and runs them.",
               "sluice-worker");
  declare(app, flags, config);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    config.exit_code = app.exit(error) == 0 ? 0 : static_cast<int>(node_misconfigured);
    return config;
  }
  if (!flags.config_file.empty())
    if (auto read = read_file(flags, config); !read) return tl::unexpected(read.error());
  for (const std::string& task : flags.tasks)
    if (auto taken = take_task_flag(task, config); !taken) return tl::unexpected(taken.error());
  take_builtins(flags, config);
  if (auto taken = take_node(flags, config); !taken) return tl::unexpected(taken.error());
  if (auto taken = take_labels(flags, config); !taken) return tl::unexpected(taken.error());
  if (auto begun = begin_log(flags, config); !begun) return tl::unexpected(begun.error());
  config.node = with_defaults(std::move(config.node));
  return config;
}

void print_effective(const WorkerConfig& config, const TaskTable& table) {
  const NodeOptions& node = config.node;
  log_line(LogLevel::info,
           "configuration",
           {{"broker", node.broker},
            {"name", node.name},
            {"concurrency", std::to_string(node.concurrency)},
            {"tasks", joined(table.tasks())},
            {"queues", node.queues.empty() ? "*" : joined(node.queues)},
            {"state_dir", node.state_dir.empty() ? "none" : node.state_dir},
            {"drain_grace_ms", std::to_string(node.drain_grace_ms)},
            {"log_level", config.log_level}});
}

}  // namespace sluice
