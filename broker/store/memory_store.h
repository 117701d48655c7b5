// The twin of RedisStore: the same functions over a MemoryRedis, for the simulator and tests.
// The conformance suite holds both to the same answers. Deterministic; nothing happens by itself.
//
// A MemoryRedis outlives the brokers that use it (a restart is a new MemoryStore over the same
// one). The view is kept as Redis keeps it, fields and indexes, so that it can be audited.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/store/store.h"
#include "broker/store/view_row.h"

namespace sluice {

// A sorted set.
class MemoryIndex {
 public:
  using Entry = std::pair<double, std::string>;

  void add(const std::string& member, double score);
  void remove(const std::string& member);

  [[nodiscard]] const std::set<Entry>& entries() const { return order_; }

  [[nodiscard]] std::optional<double> score(const std::string& member) const;

 private:
  std::set<Entry> order_;
  std::unordered_map<std::string, double> scores_;
};

// What a Redis holds for one partition, and its functions. Copyable: a copy is an older state
// to roll back to.
struct MemoryRedis {
  struct Hash {
    JobState state = JobState::pending;
    std::string queue;
    std::uint64_t batch = 0;
    FieldPairs fields;
    mutable std::optional<double> audited_score;  // what `fields` give, once audit() has read them
  };

  StoreMeta meta;
  std::uint64_t next_sequence = 1;
  std::int64_t view_lag_ms = 0;
  std::map<std::uint64_t, LogEntryPtr> log;
  std::unordered_map<std::string, Hash> jobs;

  // A job's log: what is kept of it, and how much it ever wrote.
  struct JobLog {
    std::deque<LogChunk> chunks;
    std::uint64_t size = 0;
  };

  std::map<std::string, JobLog> job_logs;
  std::uint64_t log_bytes = 0;                 // kept, of all of them
  std::map<std::string, MemoryIndex> indexes;  // by the part of the key after the prefix
  std::map<std::string, QueueRecord> queues;
  std::map<std::string, std::string> nodes;
  std::deque<std::string> events;
  std::map<std::uint64_t, std::string> ended;  // chunks
  std::uint64_t ended_first = 0, ended_next = 0;
  std::uint64_t log_trimmed = 0;
  std::uint64_t finished_not_kept = 0;
  // Of the process, not of the data.
  std::uint64_t run = 1;
  Durability durability = Durability::everysec;
  bool is_full = false;

  [[nodiscard]] std::string run_id() const { return "run" + std::to_string(run); }

  // FLUSHALL: the data goes, the process stays.
  void flush();

  // Another process, with the data of `older` (a copy made before), or with what is here.
  void restart() { ++run; }

  void roll_back(const MemoryRedis& older);

  [[nodiscard]] TookOver take_over(const TakeOver& request, const std::string& owner);
  [[nodiscard]] CommitReply commit(const CommitRequest& request, const std::string& owner);
  [[nodiscard]] ProjectReply project(const ProjectRequest& request, const std::string& owner);
  // The live jobs and the queues, as a start finds them: by the queues that it knows.
  void read_view(Snapshot& snapshot) const;
  [[nodiscard]] FetchedJobs fetch(const FetchJobs& request) const;
  [[nodiscard]] FetchedList list(const FetchList& request) const;
  [[nodiscard]] AddedToLogs add_to_logs(const AddToLogs& request, const std::string& owner);
  [[nodiscard]] FetchedJobLog read_job_log(const FetchJobLog& request) const;
  [[nodiscard]] LogRead read_log(const ReadLog& request) const;

  // What is wrong with the view: a job without its index entry, or an entry without its job. Empty
  // = every id stands in exactly the one index of its state (index_agrees).
  [[nodiscard]] std::string audit() const;

 private:
  void put_ended(const ProjectRequest& request);
  void write_last(const ProjectRequest& request);
  void write_row(const ViewRow& row);
  void remove_job(const std::string& id);
  void remove_log(const std::string& id);
  void trim_queue(const std::string& queue, const ProjectRequest& request, ProjectReply& reply);
  void trim_index(MemoryIndex& index,
                  std::int64_t keep_ms,
                  const ProjectRequest& request,
                  ProjectReply& reply);
};

class MemoryStore : public Store {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryRedis> redis) : redis_(std::move(redis)) {}

  [[nodiscard]] Result<Opened> open(std::string owner,
                                    std::uint64_t epoch_min,
                                    const OpenProgress& progress) override;
  // Executes at once; the answer waits for receive().
  void send(StoreRequest request) override;
  void receive(std::vector<StoreReply>& replies) override;

  // An answer that is ready is asked for at once.
  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override {
    return replies_.empty() ? kNever : 0;
  }

  // ---- faults, for the simulator
  // Requests are kept and not executed until execute(): a slow Redis, or a network in between.
  void set_held(bool is_held) { is_held_ = is_held; }

  [[nodiscard]] std::size_t held_count() const { return held_.size(); }

  // Executes the next held request. `loses_reply`: it is executed, but nobody hears of it; to be
  // followed by disconnect().
  void execute(bool loses_reply = false);

  // While not empty every request is answered with StoreRefused and this reason ("OOM ...").
  void set_refusing(std::string reason) { refusing_ = std::move(reason); }

  // The connection ends: held requests and answers not yet received are gone.
  void disconnect(std::string reason);
  // The connection is back.
  void connect();

  [[nodiscard]] bool is_connected() const { return is_connected_; }

  // Says the health that the MemoryRedis has now.
  void say_health();

 private:
  [[nodiscard]] StoreReply run(const StoreRequest& request);
  [[nodiscard]] static StoreRefused refused(const StoreRequest& request, std::string reason);

  std::shared_ptr<MemoryRedis> redis_;
  std::string owner_;
  std::deque<StoreRequest> held_;
  std::vector<StoreReply> replies_;
  std::string refusing_;
  bool is_held_ = false;
  bool is_connected_ = true;
};

}  // namespace sluice
