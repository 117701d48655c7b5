// Words back to the protocol's own enumerations; to_string() of each stands in messages.h.
#pragma once

#include <optional>
#include <string_view>

#include "common/protocol/messages.h"

namespace sluice {

[[nodiscard]] std::optional<Durability> parse_durability(std::string_view word);
[[nodiscard]] std::optional<SubmitStatus> parse_submit_status(std::string_view word);
[[nodiscard]] std::optional<Phase> parse_phase(std::string_view word);

}  // namespace sluice
