// The difference of two texts as people read it.
#pragma once

#include <string>
#include <string_view>

namespace sluice::scenarios {

// A unified diff (three lines of context, `@@` with line numbers); empty when they are the same.
[[nodiscard]] std::string unified_diff(std::string_view file,
                                       std::string_view expected,
                                       std::string_view seen);

}  // namespace sluice::scenarios
