// The cursor of a page of an index: after which queue, score and id it goes on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

struct ListCursor {
  std::string queue;  // empty for the indexes of all queues
  double score = 0;
  std::string id;
};

[[nodiscard]] std::string to_text(const ListCursor& cursor);
[[nodiscard]] std::optional<ListCursor> parse_list_cursor(std::string_view text);

}  // namespace sluice
