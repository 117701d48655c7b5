#include "broker/store/list_cursor.h"

#include <charconv>
#include <system_error>

namespace sluice {

namespace {

constexpr double kScoreMax = 1LL << 53;  // scores are whole numbers up to here

}  // namespace

// queue/score/id: no name has a slash.
std::string to_text(const ListCursor& cursor) {
  char score[40];
  const auto end =
      std::to_chars(score, score + sizeof score, cursor.score, std::chars_format::fixed, 0).ptr;
  return cursor.queue + "/" + std::string(score, end) + "/" + cursor.id;
}

std::optional<ListCursor> parse_list_cursor(std::string_view text) {
  const std::size_t first = text.find('/');
  const std::size_t second = text.find('/', first == text.npos ? first : first + 1);
  if (second == text.npos) return std::nullopt;
  ListCursor cursor{std::string(text.substr(0, first)), 0, std::string(text.substr(second + 1))};
  const std::string_view score = text.substr(first + 1, second - first - 1);
  const auto [end, error] =
      std::from_chars(score.data(), score.data() + score.size(), cursor.score);
  if (error != std::errc() || end != score.data() + score.size() || cursor.id.empty())
    return std::nullopt;
  // A client may say anything, and Redis takes no "nan" for a place in an index.
  if (!(cursor.score >= 0 && cursor.score <= kScoreMax)) return std::nullopt;
  return cursor;
}

}  // namespace sluice
