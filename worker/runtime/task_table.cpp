#include "worker/runtime/task_table.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/ids.h"
#include "common/limits.h"

namespace sluice {

// What it opened on the way to a mistake is not left open in a node that goes on without it.
TaskTable::~TaskTable() {
  if (is_unfinished_) spawner_->drop_channels(channels_before_);
}

void TaskTable::set_groups(const std::optional<CgroupPlace>& groups) {
  spawner_->set_groups(groups);
  host_.is_in_groups = groups.has_value();
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
  settings.set_host(host_);
  if (auto added = kind->second->add(settings); !added) return added;
  if (const auto error = settings.untaken()) return tl::unexpected(*error);
  doubts_.insert(doubts_.end(), settings.doubts().begin(), settings.doubts().end());
  kind_of_[task] = kind->first;
  return {};
}

std::vector<std::string> TaskTable::tasks() const {
  std::vector<std::string> names;
  for (const auto& [task, kind] : kind_of_)
    names.push_back(task);
  return names;
}

std::uint64_t TaskTable::descriptors() const {
  std::set<std::string> kinds;
  for (const auto& [task, kind] : kind_of_)
    kinds.insert(kind);
  DescriptorNeed all;
  for (const std::string& kind : kinds) {
    const DescriptorNeed need = kinds_.at(kind)->descriptors(host_.concurrency);
    all.standing += need.standing;
    all.per_attempt = std::max(all.per_attempt, need.per_attempt);
  }
  return all.standing + all.per_attempt * host_.concurrency;
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
