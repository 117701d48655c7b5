// A job's payload as JSON, for handlers that look inside. Payloads are opaque to everybody else.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace sluice {

// `application/json` is parsed as such, anything else as msgpack. Nothing when it is neither, or is
// nested deeper than 32.
[[nodiscard]] std::optional<nlohmann::json> payload_as_json(std::string_view content_type,
                                                            std::string_view payload);

// Whether reading such a payload cannot end the stack: at most 32 levels. (That it can be read is
// not said; msgpack that is cut short is not.)
[[nodiscard]] bool is_shallow(std::string_view content_type, std::string_view payload);

// A scalar as text: a string as it is, numbers and booleans as in JSON. Nothing for the rest.
[[nodiscard]] std::optional<std::string> scalar_text(const nlohmann::json& value);

}  // namespace sluice
