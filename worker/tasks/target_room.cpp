#include "worker/tasks/target_room.h"

namespace sluice {

bool TargetRoom::enter(const std::string& group, std::size_t most) {
  Group& entered = groups_[group];
  entered.most = most;
  if (entered.under_way >= most) return false;
  ++entered.under_way;
  return true;
}

void TargetRoom::leave(const std::string& group) {
  const auto found = groups_.find(group);
  if (found == groups_.end() || found->second.under_way == 0) return;
  --found->second.under_way;
  drop_if_empty(group);
}

void TargetRoom::wait(const std::string& group, std::uint64_t call) {
  groups_[group].line.push_back(call);
}

void TargetRoom::forget(const std::string& group, std::uint64_t call) {
  const auto found = groups_.find(group);
  if (found == groups_.end()) return;
  std::erase(found->second.line, call);
  drop_if_empty(group);
}

std::optional<std::uint64_t> TargetRoom::next(const std::string& group) {
  const auto found = groups_.find(group);
  if (found == groups_.end()) return std::nullopt;
  Group& entered = found->second;
  if (entered.line.empty() || entered.under_way >= entered.most) return std::nullopt;
  const std::uint64_t call = entered.line.front();
  entered.line.pop_front();
  drop_if_empty(group);
  return call;
}

// Origins come and go with the jobs: nothing stays of one that has no call.
void TargetRoom::drop_if_empty(const std::string& name) {
  const auto found = groups_.find(name);
  if (found != groups_.end() && found->second.under_way == 0 && found->second.line.empty())
    groups_.erase(found);
}

}  // namespace sluice
