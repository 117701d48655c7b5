#include "broker/core/nodes.h"

#include <algorithm>

namespace sluice {

bool Node::offers(std::string_view task, std::string_view queue) const {
  const auto has = [](const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return has(tasks, task) && (queues.empty() || has(queues, queue));
}

std::optional<NodeIndex> Nodes::find(const std::string& id) const {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return std::nullopt;
  return found->second;
}

NodeIndex Nodes::add(std::string id) {
  NodeIndex index = 0;
  if (free_.empty()) {
    index = static_cast<NodeIndex>(nodes_.size());
    nodes_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Node& node = nodes_[index];
  node = Node{};
  node.id = std::move(id);
  node.is_used = true;
  by_id_.emplace(node.id, index);
  used_.push_back(index);
  changed();
  return index;
}

void Nodes::remove(NodeIndex index) {
  Node& node = nodes_[index];
  by_id_.erase(node.id);
  node = Node{};
  std::erase(used_, index);
  std::erase(touched_, index);
  free_.push_back(index);
  changed();
}

}  // namespace sluice
