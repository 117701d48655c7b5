// One [task.NAME] table of the configuration, as it is read by the kind of runtime that it names.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/result.h"

namespace sluice {

// What a task may want to know of the node that runs it.
struct TaskHost {
  bool is_in_groups = false;      // cgroups hold what it runs to its limits
  std::uint32_t concurrency = 0;  // slots; 0 = not known
};

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

  [[nodiscard]] const TaskHost& host() const { return host_; }

  void set_host(const TaskHost& host) { host_ = host; }

  // `task.NAME.KEY=VALUE` of what nobody took yet, for people. Of a table of texts the names only:
  // there may be secrets among the values.
  [[nodiscard]] std::vector<std::string> lines() const;

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

  // What the node can start with and will hardly be meant, or fails its jobs as this machine is
  // now.
  void doubt(const std::string& key, std::string detail);

  [[nodiscard]] const std::vector<Error>& doubts() const { return doubts_; }

 private:
  [[nodiscard]] std::map<std::string, Value>::node_type take(const std::string& key);

  std::string task_;
  TaskHost host_;
  std::map<std::string, Value> values_;
  std::vector<std::string> asked_;  // every key that is known here
  std::vector<Error> doubts_;
};

}  // namespace sluice
