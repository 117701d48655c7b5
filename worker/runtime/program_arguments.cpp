#include "worker/runtime/program_arguments.h"

#include <optional>
#include <utility>

#include "worker/runtime/payload.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

// The NAME of a {NAME} that begins at `at`; empty when none does. `${NAME}` is the shell's.
std::string placeholder_at(const std::string& text, std::size_t at) {
  if (text[at] != '{' || (at > 0 && text[at - 1] == '$')) return {};
  const std::size_t end =
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_",
                             at + 1);
  if (end == std::string::npos || text[end] != '}') return {};
  return text.substr(at + 1, end - at - 1);
}

}  // namespace

Result<std::vector<std::string>> fill_arguments(const std::vector<std::string>& program,
                                                const RunJob& job) {
  std::optional<nlohmann::json> body;
  bool is_read = false;
  const auto value_of = [&](const std::string& name) -> std::optional<std::string> {
    if (name == "id") return job.id.str();
    if (name == "payload") return job.payload;
    if (!std::exchange(is_read, true)) body = payload_as_json(job.content_type, job.payload);
    if (!body || !body->is_object() || !body->contains(name)) return std::nullopt;
    return scalar_text((*body)[name]);
  };
  std::vector<std::string> filled;
  for (const std::string& argument : program) {
    std::string text;
    for (std::size_t at = 0; at < argument.size();) {
      const std::string name = placeholder_at(argument, at);
      if (name.empty()) {
        text += argument[at++];
        continue;
      }
      const auto value = value_of(name);
      if (!value)
        return fail(ErrorCode::bad_field, name, "the payload has no plain field \"" + name + "\"");
      if (value->find('\0') != std::string::npos)
        return fail(ErrorCode::bad_field, name, "a NUL byte cannot stand in an argument");
      text += *value;
      at += name.size() + 2;
    }
    filled.push_back(std::move(text));
  }
  return filled;
}

}  // namespace sluice
