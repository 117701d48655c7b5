// Which task is run how: the [task.NAME] tables of the configuration, and the runtimes that came of
// them. A kind of runtime (`run = "exec"`) registers a builder; it takes the tables of its kind,
// checks them, and makes one Runtime for all of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "worker/runtime/cgroup_place.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_settings.h"

namespace sluice {

// How many descriptors attempts may take of the node's, at most.
struct DescriptorNeed {
  std::uint64_t standing = 0;     // for processes and connections that are kept
  std::uint64_t per_attempt = 0;  // and for each that runs
};

class RuntimeBuilder {
 public:
  RuntimeBuilder() = default;
  RuntimeBuilder(const RuntimeBuilder&) = delete;
  RuntimeBuilder& operator=(const RuntimeBuilder&) = delete;
  virtual ~RuntimeBuilder() = default;

  // Takes one task's settings. Called before any thread exists.
  [[nodiscard]] virtual Result<void> add(TaskSettings& settings) = 0;
  // Called once, after the spawner was forked, and only if add() was called.
  [[nodiscard]] virtual std::unique_ptr<Runtime> build() = 0;

  // Of the tasks that were added, on a node with so many slots.
  [[nodiscard]] virtual DescriptorNeed descriptors(std::uint32_t concurrency) const {
    (void)concurrency;
    return {};
  }

  // Called before the spawner is forked, whether or not add() was: what its children must know.
  virtual void teach(const std::string& node, Spawner& spawner) {
    (void)node;
    (void)spawner;
  }

  // Called once, and only if add() was called: the place to open a channel to the spawner, which
  // stays the spawner's. `node` is this life's node id, the marker for child processes
  // (SLUICE_NODE). Throws std::runtime_error with a sentence.
  virtual void prepare(const std::string& node, Spawner& spawner) {
    (void)node;
    (void)spawner;
  }
};

class TaskTable {
 public:
  TaskTable() = default;
  ~TaskTable();
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;

  // An empty one that is to take its place in a node that runs: it has the same spawner.
  [[nodiscard]] std::unique_ptr<TaskTable> make_successor() const {
    auto next = std::make_unique<TaskTable>();
    next->spawner_ = spawner_;
    next->host_ = host_;
    return next;
  }

  // Before add(): where cgroups hold programs and isolates to their limits; nothing = nowhere.
  void set_groups(const std::optional<CgroupPlace>& groups);

  // Before add(): how many attempts run at once.
  void set_concurrency(std::uint32_t concurrency) { host_.concurrency = concurrency; }

  void add_kind(std::string run, std::unique_ptr<RuntimeBuilder> builder);
  // `settings` has the key `run`, which chooses the kind. Errors: bad_field (unknown kind, a bad or
  // unknown key, a task named twice, a bad name).
  [[nodiscard]] Result<void> add(TaskSettings settings);

  [[nodiscard]] std::vector<std::string> tasks() const;

  // TaskSettings::doubt() of all that was added.
  [[nodiscard]] const std::vector<Error>& doubts() const { return doubts_; }

  // How many descriptors all of it may take of the node's, at most.
  [[nodiscard]] std::uint64_t descriptors() const;

  // Forks the spawner, if one is needed and there is none from an earlier table; before any thread,
  // socket or ZeroMQ context exists. See RuntimeBuilder::prepare. The table must outlive its
  // runtimes.
  void prepare(const std::string& node);

  // Makes the runtimes. Once. The pointers of `by_task` point into `runtimes`.
  struct Built {
    std::vector<std::unique_ptr<Runtime>> runtimes;
    std::map<std::string, Runtime*, std::less<>> by_task;
  };

  [[nodiscard]] Built build();

 private:
  std::shared_ptr<Spawner> spawner_ = std::make_shared<Spawner>();
  TaskHost host_;
  std::vector<Error> doubts_;
  std::size_t channels_before_ = 0;
  bool is_unfinished_ = false;  // prepared, and not all built
  std::map<std::string, std::unique_ptr<RuntimeBuilder>> kinds_;
  std::map<std::string, std::string> kind_of_;  // task -> kind; only kinds that stand in kinds_
};

}  // namespace sluice
