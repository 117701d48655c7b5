#include "worker/runtime/task_table.h"

#include <utility>

#include "common/config_value.h"
#include "common/ids.h"
#include "common/limits.h"

namespace sluice {

Error TaskSettings::error(const std::string& key, std::string detail) const {
  return Error{ErrorCode::bad_field,
               "task." + task_ + (key.empty() ? "" : ".") + key,
               std::move(detail)};
}

std::optional<Error> TaskSettings::untaken() const {
  if (values_.empty()) return std::nullopt;
  const std::string& key = values_.begin()->first;
  std::string near = nearest_name(key, asked_);
  if (!near.empty()) return error(key, "is no setting of this task; did you mean " + near + "?");
  std::string known;
  for (const std::string& name : asked_)
    known += (known.empty() ? "" : ", ") + name;
  return error(key, "is no setting of this task; there are " + known);
}

Error TaskSettings::missing(const std::string& key, std::string detail) const {
  std::vector<std::string> others;
  for (const auto& [name, value] : values_)
    others.push_back(name);
  const std::string near = nearest_name(key, others);
  return error(key, near.empty() ? std::move(detail) : detail + "; " + near + " is no setting");
}

std::map<std::string, TaskSettings::Value>::node_type TaskSettings::take(const std::string& key) {
  asked_.push_back(key);
  return values_.extract(key);
}

Result<std::optional<bool>> TaskSettings::take_bool(const std::string& key) {
  const auto node = take(key);
  if (!node) return std::nullopt;
  if (const auto* value = std::get_if<bool>(&node.mapped())) return *value;
  return tl::unexpected(error(key, "must be true or false"));
}

Result<std::optional<std::int64_t>> TaskSettings::take_integer(const std::string& key,
                                                               std::int64_t min,
                                                               std::int64_t max) {
  const auto node = take(key);
  if (!node) return std::nullopt;
  const auto* value = std::get_if<std::int64_t>(&node.mapped());
  if (value != nullptr && *value >= min && *value <= max) return *value;
  return tl::unexpected(
      error(key, "must be an integer from " + std::to_string(min) + " to " + std::to_string(max)));
}

Result<std::optional<std::string>> TaskSettings::take_text(const std::string& key) {
  auto node = take(key);
  if (!node) return std::nullopt;
  if (auto* value = std::get_if<std::string>(&node.mapped())) return std::move(*value);
  return tl::unexpected(error(key, "must be a text"));
}

Result<std::optional<TaskSettings::Texts>> TaskSettings::take_texts(const std::string& key) {
  auto node = take(key);
  if (!node) return std::nullopt;
  if (auto* value = std::get_if<Texts>(&node.mapped())) return std::move(*value);
  if (auto* value = std::get_if<std::string>(&node.mapped())) return Texts{std::move(*value)};
  return tl::unexpected(error(key, "must be a list of texts"));
}

Result<std::optional<TaskSettings::TextMap>> TaskSettings::take_map(const std::string& key) {
  auto node = take(key);
  if (!node) return std::nullopt;
  if (auto* value = std::get_if<TextMap>(&node.mapped())) return std::move(*value);
  return tl::unexpected(error(key, "must be a table of texts"));
}

Result<std::optional<std::int64_t>> TaskSettings::take_duration_ms(const std::string& key) {
  const auto node = take(key);
  if (!node) return std::nullopt;
  if (const auto* number = std::get_if<std::int64_t>(&node.mapped()))
    if (*number >= 0 && *number <= kTenYearsMs) return *number;
  if (const auto* text = std::get_if<std::string>(&node.mapped()))
    if (const auto duration = read_duration_ms(*text))
      if (*duration >= 0 && *duration <= kTenYearsMs) return *duration;
  return tl::unexpected(
      error(key, "must be a duration such as \"30s\", or milliseconds, at most ten years"));
}

Result<std::optional<std::int64_t>> TaskSettings::take_bytes(const std::string& key) {
  const auto node = take(key);
  if (!node) return std::nullopt;
  if (const auto* number = std::get_if<std::int64_t>(&node.mapped()))
    if (*number >= 0) return *number;
  if (const auto* text = std::get_if<std::string>(&node.mapped()))
    if (const auto bytes = read_bytes(*text))
      if (*bytes >= 0) return *bytes;
  return tl::unexpected(error(key, "must be a size such as \"256MiB\", or bytes"));
}

// What it opened on the way to a mistake is not left open in a node that goes on without it.
TaskTable::~TaskTable() {
  if (is_unfinished_) spawner_->drop_channels(channels_before_);
}

void TaskTable::set_groups(const std::optional<CgroupPlace>& groups) {
  spawner_->set_groups(groups);
  has_groups_ = groups.has_value();
}

void TaskTable::add_kind(std::string run, std::unique_ptr<RuntimeBuilder> builder) {
  kinds_[std::move(run)] = std::move(builder);
}

Result<void> TaskTable::add(TaskSettings settings) {
  const std::string& task = settings.task();
  if (!is_name(task))
    return tl::unexpected(settings.error("", "a task name is [A-Za-z0-9_.-], at most 64"));
  if (kind_of_.contains(task))
    return tl::unexpected(settings.error("run", "this task is defined twice"));
  if (kind_of_.size() >= kTasksPerNodeMax)
    return tl::unexpected(settings.error(
        "",
        "is one too many: a node offers at most 256 tasks; let another node have some"));
  const auto run = settings.take_text("run");
  if (!run) return tl::unexpected(run.error());
  const auto kind = kinds_.find(run->value_or("exec"));
  if (kind == kinds_.end()) {
    std::string known;
    for (const auto& [name, builder] : kinds_)
      known += (known.empty() ? "" : ", ") + name;
    return tl::unexpected(settings.error("run", "must be one of " + known));
  }
  settings.set_in_groups(has_groups_);
  if (auto added = kind->second->add(settings); !added) return added;
  if (const auto error = settings.untaken()) return tl::unexpected(*error);
  kind_of_[task] = kind->first;
  return {};
}

std::vector<std::string> TaskTable::tasks() const {
  std::vector<std::string> names;
  for (const auto& [task, kind] : kind_of_)
    names.push_back(task);
  return names;
}

void TaskTable::prepare(const std::string& node) {
  if (!spawner_->is_settled())
    for (const auto& [run, builder] : kinds_)
      builder->teach(node, *spawner_);
  channels_before_ = spawner_->channel_count();
  is_unfinished_ = true;
  std::map<std::string, bool> is_done;
  for (const auto& [task, kind] : kind_of_)
    if (!std::exchange(is_done[kind], true)) kinds_.at(kind)->prepare(node, *spawner_);
  if (!spawner_->is_settled()) spawner_->fork();
}

TaskTable::Built TaskTable::build() {
  Built built;
  std::map<std::string, Runtime*> by_kind;
  for (const auto& [task, kind] : kind_of_) {
    Runtime*& runtime = by_kind[kind];
    if (runtime == nullptr) {
      built.runtimes.push_back(kinds_.at(kind)->build());
      runtime = built.runtimes.back().get();
    }
    built.by_task[task] = runtime;
  }
  is_unfinished_ = false;
  return built;
}

}  // namespace sluice
