#include "worker/runtime/task_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "common/config_value.h"
#include "common/limits.h"

namespace sluice {

namespace {

struct ShownValue {
  std::string operator()(bool value) const { return value ? "true" : "false"; }

  std::string operator()(std::int64_t value) const { return std::to_string(value); }

  std::string operator()(double value) const { return fmt::format("{}", value); }

  std::string operator()(const std::string& value) const { return value; }

  std::string operator()(const TaskSettings::Texts& value) const {
    return fmt::format("{}", value);
  }

  std::string operator()(const TaskSettings::TextMap& value) const {
    std::vector<std::string> names;
    for (const auto& [name, text] : value)
      names.push_back(name);
    return fmt::format("{{{}}}", fmt::join(names, ", "));
  }
};

}  // namespace

std::vector<std::string> TaskSettings::lines() const {
  std::vector<std::string> lines;
  for (const auto& [key, value] : values_)
    lines.push_back("task." + task_ + "." + key + "=" + std::visit(ShownValue(), value));
  return lines;
}

void TaskSettings::doubt(const std::string& key, std::string detail) {
  doubts_.push_back(error(key, std::move(detail)));
}

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

}  // namespace sluice
