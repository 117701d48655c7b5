// The longest common subsequence by its table: stories are a hundred lines, so quadratic is fine
// and nothing cleverer is needed.
#include "tests/scenarios/diff.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::scenarios {

namespace {

constexpr std::size_t kContext = 3;

struct Edit {
  char sign;  // ' ', '-' or '+'
  std::string_view line;
  std::size_t expected_line, seen_line;  // that stand at this place, counted from 1
};

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return lines;
}

std::vector<Edit> edits_of(std::string_view expected, std::string_view seen) {
  const auto a = lines_of(expected), b = lines_of(seen);
  std::vector<std::vector<std::uint32_t>> common(a.size() + 1,
                                                 std::vector<std::uint32_t>(b.size() + 1));
  for (std::size_t i = a.size(); i-- > 0;)
    for (std::size_t j = b.size(); j-- > 0;)
      common[i][j] =
          a[i] == b[j] ? common[i + 1][j + 1] + 1 : std::max(common[i + 1][j], common[i][j + 1]);
  std::vector<Edit> edits;
  std::size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    const Edit place{' ', {}, i + 1, j + 1};
    edits.push_back(place);
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      edits.back().line = a[i++], ++j;
    } else if (i < a.size() && (j == b.size() || common[i + 1][j] >= common[i][j + 1])) {
      edits.back().sign = '-', edits.back().line = a[i++];
    } else {
      edits.back().sign = '+', edits.back().line = b[j++];
    }
  }
  return edits;
}

std::string hunk(const std::vector<Edit>& edits, std::size_t begin, std::size_t end) {
  std::size_t expected_count = 0, seen_count = 0;
  std::string body;
  for (std::size_t i = begin; i < end; ++i) {
    expected_count += edits[i].sign != '+' ? 1 : 0;
    seen_count += edits[i].sign != '-' ? 1 : 0;
    body.append(1, edits[i].sign).append(edits[i].line).append("\n");
  }
  const auto range = [](std::size_t line, std::size_t count) {
    return std::to_string(line) + "," + std::to_string(count);
  };
  return "@@ -" + range(edits[begin].expected_line, expected_count) + " +" +
         range(edits[begin].seen_line, seen_count) + " @@\n" + body;
}

}  // namespace

std::string unified_diff(std::string_view file, std::string_view expected, std::string_view seen) {
  if (expected == seen) return {};
  const std::vector<Edit> edits = edits_of(expected, seen);
  std::string diff = "--- " + std::string(file) + "\n+++ what was seen\n";
  std::size_t i = 0;
  while (i < edits.size()) {
    if (edits[i].sign == ' ') {
      ++i;
      continue;
    }
    const std::size_t begin = i - std::min(i, kContext);
    std::size_t last = i;  // the last change of this hunk
    for (; i < edits.size() && i <= last + 2 * kContext; ++i)
      if (edits[i].sign != ' ') last = i;
    const std::size_t end = std::min(edits.size(), last + kContext + 1);
    diff += hunk(edits, begin, end);
    i = end;
  }
  return diff;
}

}  // namespace sluice::scenarios
