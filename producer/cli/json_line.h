// The one JSON object of a line, taken apart without being built: in one pass, however many keys
// its values have. (An ordered_json looks for each key among those before it, which took a minute
// for a payload of 80 000.)
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace sluice::cli {

// A member of the object. `text` is its value as JSON without blanks, keys in their order and
// numbers with the digits they were written with; `values` is how many values stand within it, at
// any depth: 0 for a scalar, 2 for [1,2] and for {"a":[1]}.
struct JsonMember {
  std::string key, text;
  std::size_t values = 0;
};

// In the order of the line. Errors: malformed when it is not one JSON object; bad_field naming a
// key that stands there twice.
[[nodiscard]] Result<std::vector<JsonMember>> members_of(std::string_view line);

}  // namespace sluice::cli
