// The worker nodes that the broker hears: what they offer, what they hold, how loaded they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/core/events.h"
#include "broker/core/job_table.h"
#include "common/protocol/messages.h"

namespace sluice {

struct Node {
  std::string id;  // name@life
  Peer peer;
  bool is_used = false;
  std::uint32_t concurrency = 1;
  std::vector<std::string> tasks;
  std::vector<std::string> queues;  // empty = every queue
  std::vector<Header> labels;
  std::string version;
  std::vector<IsolateFigures> isolates;
  bool is_draining = false;
  bool is_touched = false;        // this turn owes it something
  std::uint64_t status_seq = 0;   // of its newest status
  std::int64_t last_seen_ms = 0;  // core time
  std::vector<JobSlot> attempts;  // running jobs that we believe on it
  std::uint32_t strays = 0;       // attempts that it holds and that are no longer its own
  std::uint64_t completed = 0, failed = 0;

  // What goes to it with this turn, in this order.
  bool wants_welcome = false;
  bool wants_repeat = false;  // with the welcome
  std::vector<AckedAttempt> acks;
  std::vector<AttemptRef> drops;
  std::vector<AttemptRef> cancels;
  std::vector<BrokerBody> wishes;
  std::vector<JobSlot> runs;

  [[nodiscard]] std::uint32_t busy() const {
    return static_cast<std::uint32_t>(attempts.size()) + strays;
  }

  [[nodiscard]] std::uint32_t free() const {
    return is_draining || busy() >= concurrency ? 0 : concurrency - busy();
  }

  [[nodiscard]] bool offers(std::string_view task, std::string_view queue) const;

  [[nodiscard]] std::string_view name() const {
    return std::string_view(id).substr(0, id.find('@'));
  }
};

class Nodes {
 public:
  [[nodiscard]] std::optional<NodeIndex> find(const std::string& id) const;
  NodeIndex add(std::string id);
  void remove(NodeIndex index);

  [[nodiscard]] Node& at(NodeIndex index) { return nodes_[index]; }

  [[nodiscard]] const Node& at(NodeIndex index) const { return nodes_[index]; }

  // Indexes in use, in the order of their joining.
  [[nodiscard]] const std::vector<NodeIndex>& used() const { return used_; }

  // Grows whenever a node comes, goes or changes what it offers: caches of fitting nodes watch it.
  [[nodiscard]] std::uint64_t version() const { return version_; }

  void changed() { ++version_; }

  // The nodes whose turn has something to send are noted here by touch().
  void touch(NodeIndex index) {
    if (!std::exchange(nodes_[index].is_touched, true)) touched_.push_back(index);
  }

  [[nodiscard]] std::vector<NodeIndex>& touched() { return touched_; }

 private:
  std::vector<Node> nodes_;
  std::vector<NodeIndex> free_;
  std::vector<NodeIndex> used_;
  std::vector<NodeIndex> touched_;
  std::unordered_map<std::string, NodeIndex> by_id_;
  std::uint64_t version_ = 1;
};

}  // namespace sluice
