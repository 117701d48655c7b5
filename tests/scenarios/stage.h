// Where a story plays: the real broker (Engine: core, commit pipeline, projector, outbox) over the
// in-memory twin of Redis, producers that only ask, and nodes that do what PROTOCOL.md asks of a
// node and otherwise what the story says. Everything that is said goes through the codec, both
// ways, and is written down as a line.
//
// Time stands still within a step. advance() moves it from deadline to deadline, as the loop does.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/engine.h"
#include "broker/store/memory_store.h"

namespace sluice::scenarios {

// A worker node of the story.
struct StoryNode {
  Status offer;  // node, tasks, queues, ...; `held` and `seen` are filled in when it is sent
  std::map<JobId, HeldAttempt> held;
  Seen seen;
  std::uint64_t greeted_epoch = 0;  // of the first welcome that was answered by a second status
  std::int64_t next_heartbeat_ms = 0;
  bool is_linked = true;  // else nothing reaches it and nothing comes from it
  bool owes_status = false;
  std::uint64_t lose_next = 0;  // so many messages to it are lost
  std::uint64_t quiet = 0;      // welcomes that answer heartbeats and are not written down
};

class Stage {
 public:
  Stage();

  [[nodiscard]] Now now() const { return now_; }

  [[nodiscard]] std::int64_t story_ms() const;

  // Both until the first step that needs the broker.
  EngineConfig& config() { return config_; }

  // ---- producers
  // `line` of the story, so that an unanswered request can be named.
  void request(Peer peer, RequestBody body, std::size_t line);
  void raw_request(Peer peer, const std::string& frame);

  // The cursor that the last answer had.
  [[nodiscard]] const std::string& last_cursor() const { return last_cursor_; }

  void show_stats(std::vector<std::string> keys) { stats_keys_ = std::move(keys); }

  // ---- nodes
  // Throws StoryError when there is none of this name.
  [[nodiscard]] StoryNode& node(const std::string& id);

  StoryNode& add_node(const std::string& id) { return nodes_[id]; }

  [[nodiscard]] bool has_node(const std::string& id) const { return nodes_.count(id) > 0; }

  void send_status(StoryNode& node, bool is_quiet = false);
  void say(StoryNode& node, const WorkerMessage& message);
  void raw_worker(const std::string& routing_id, const std::string& frame);

  // ---- broker, store and time
  [[nodiscard]] Engine& broker();
  [[nodiscard]] MemoryStore& store();

  [[nodiscard]] MemoryRedis& redis() { return *redis_; }

  // The state as it is now, and Redis started anew from it: what came after is lost.
  void save_redis() { saved_ = *redis_; }

  void roll_redis_back();

  // kill -9 and a start: only what Redis holds is left.
  void restart_broker();
  void stop_broker();
  // SIGSTOP for so long.
  void sleep_broker(std::int64_t ms);
  void advance(std::int64_t ms);
  // Until nobody has anything to say at this moment.
  void settle();

  void write_line(std::string line) { lines_.push_back(std::move(line)); }

  [[nodiscard]] std::vector<std::string> take_lines() { return std::exchange(lines_, {}); }

  // A request that has no closing answer yet: who asked, in which line. Empty = none.
  [[nodiscard]] std::string unanswered() const;

 private:
  void start_broker();
  bool carry();
  void to_store(StoreRequest&& request);
  void to_peer(const Frame& frame);
  void to_producer(const Frame& frame);
  void to_node(const Frame& frame);
  void take(StoryNode& node, const BrokerMessage& message);
  void heartbeats();
  [[nodiscard]] std::int64_t next_moment_ms();
  void write_batch(const CommitRequest& request);

  EngineConfig config_;
  Now now_;
  std::shared_ptr<MemoryRedis> redis_;
  std::optional<MemoryRedis> saved_;
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Engine> broker_;
  std::vector<std::string> lines_;

  struct Asked {
    std::string who;
    std::size_t line;
  };

  std::map<std::pair<std::string, Req>, Asked> asked_;
  std::uint64_t next_req_ = 1;
  std::string last_cursor_;
  std::vector<std::string> stats_keys_;

  std::map<std::string, StoryNode> nodes_;
  std::uint64_t written_n_ = 0;   // the newest batch written down
  std::map<JobId, Job> written_;  // jobs as last written down
  std::map<std::string, bool> paused_;
};

}  // namespace sluice::scenarios
