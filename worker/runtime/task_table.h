// Which task is run how: the [task.NAME] tables of the configuration, and the runtimes that came of
// them. A kind of runtime (`run = "exec"`) registers a builder; it takes the tables of its kind,
// checks them, and makes one Runtime for all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/result.h"
#include "worker/runtime/cgroup_place.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"

namespace sluice {

// One [task.NAME] table. A builder takes the keys that it knows; what nobody took is refused with
// its name. Errors: bad_field, `where` = task.NAME.KEY.
class TaskSettings {
 public:
  using Texts = std::vector<std::string>;
  using TextMap = std::map<std::string, std::string>;
  using Value = std::variant<bool, std::int64_t, double, std::string, Texts, TextMap>;

  TaskSettings() = default;

  TaskSettings(std::string task, std::map<std::string, Value> values)
      : task_(std::move(task)), values_(std::move(values)) {}

  [[nodiscard]] const std::string& task() const { return task_; }

  // Whether cgroups hold what this node runs to its limits.
  [[nodiscard]] bool is_in_groups() const { return is_in_groups_; }

  void set_in_groups(bool is_in_groups) { is_in_groups_ = is_in_groups; }

  // Each returns nothing when the key is absent, and an error when it has another type.
  [[nodiscard]] Result<std::optional<bool>> take_bool(const std::string& key);
  [[nodiscard]] Result<std::optional<std::int64_t>> take_integer(const std::string& key,
                                                                 std::int64_t min,
                                                                 std::int64_t max);
  [[nodiscard]] Result<std::optional<std::string>> take_text(const std::string& key);
  // A single text is taken as a list of one.
  [[nodiscard]] Result<std::optional<Texts>> take_texts(const std::string& key);
  [[nodiscard]] Result<std::optional<TextMap>> take_map(const std::string& key);
  // "1500ms", "30s", "5m", "1h", "7d", or an integer of milliseconds; at most ten years.
  [[nodiscard]] Result<std::optional<std::int64_t>> take_duration_ms(const std::string& key);

  // "256MiB", or an integer of bytes.
  [[nodiscard]] Result<std::optional<std::int64_t>> take_bytes(const std::string& key);

  // The first key that nobody took, with the nearest that was asked for, or nothing.
  [[nodiscard]] std::optional<Error> untaken() const;
  // That `key` must be given; names the key that stands there and may have been meant for it.
  [[nodiscard]] Error missing(const std::string& key, std::string detail) const;
  [[nodiscard]] Error error(const std::string& key, std::string detail) const;

 private:
  [[nodiscard]] std::map<std::string, Value>::node_type take(const std::string& key);

  std::string task_;
  bool is_in_groups_ = false;
  std::map<std::string, Value> values_;
  std::vector<std::string> asked_;  // every key that is known here
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
    next->has_groups_ = has_groups_;
    return next;
  }

  // Before add(): where cgroups hold programs and isolates to their limits; nothing = nowhere.
  void set_groups(const std::optional<CgroupPlace>& groups);

  void add_kind(std::string run, std::unique_ptr<RuntimeBuilder> builder);
  // `settings` has the key `run`, which chooses the kind. Errors: bad_field (unknown kind, a bad or
  // unknown key, a task named twice, a bad name).
  [[nodiscard]] Result<void> add(TaskSettings settings);

  [[nodiscard]] std::vector<std::string> tasks() const;
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
  bool has_groups_ = false;
  std::size_t channels_before_ = 0;
  bool is_unfinished_ = false;  // prepared, and not all built
  std::map<std::string, std::unique_ptr<RuntimeBuilder>> kinds_;
  std::map<std::string, std::string> kind_of_;  // task -> kind; only kinds that stand in kinds_
};

}  // namespace sluice
