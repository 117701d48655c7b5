#include "worker/runtime/payload.h"

#include <cstddef>
#include <string>

#include "common/nesting.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

constexpr std::size_t kDepthMax = 32;

bool is_json_type(std::string_view content_type) {
  return content_type.starts_with("application/json");
}

}  // namespace

bool is_shallow(std::string_view content_type, std::string_view payload) {
  return is_json_type(content_type) ? is_json_within(payload, kDepthMax)
                                    : is_msgpack_within(payload, kDepthMax);
}

std::optional<nlohmann::json> payload_as_json(std::string_view content_type,
                                              std::string_view payload) {
  if (payload.empty()) return std::nullopt;
  if (!is_shallow(content_type, payload)) return std::nullopt;
  auto value = is_json_type(content_type) ? nlohmann::json::parse(payload, nullptr, false)
                                          : nlohmann::json::from_msgpack(payload, true, false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

std::optional<std::string> scalar_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

}  // namespace sluice
