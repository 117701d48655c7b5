// A scenario file: steps that do something, each with the output that is expected under it, and
// comments between them. README.md is the grammar.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::scenarios {

// The file can not be read as a story: a wrong step, a word that nobody knows.
struct StoryError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One step, or a comment or blank line that is kept as it is.
struct Block {
  std::size_t line = 0;  // counted from 1
  std::string text;      // as written
  bool is_step = false;
  std::vector<std::string> expected;  // without the two blanks that indent them
};

// Throws StoryError, with the number of the line in front.
[[nodiscard]] std::vector<Block> parse_story(std::string_view text);
// The file with this output under its steps; the same bytes when nothing changed.
[[nodiscard]] std::string render_story(const std::vector<Block>& blocks);

// The words of a step: the verb, then names, then options `key=value`. Every reader throws
// StoryError with a sentence that says what was expected.
class Words {
 public:
  explicit Words(std::string_view step);

  [[nodiscard]] const std::string& verb() const { return verb_; }

  // The next name; `what` is what the sentence calls it.
  [[nodiscard]] std::string name(const char* what);
  // The names that are left, at least one.
  [[nodiscard]] std::vector<std::string> names(const char* what);

  [[nodiscard]] bool has_names() const { return next_name_ < names_.size(); }

  [[nodiscard]] bool has(const std::string& key) const { return options_.count(key) > 0; }

  [[nodiscard]] std::optional<std::string> text(const std::string& key);
  [[nodiscard]] std::optional<std::uint64_t> number(const std::string& key);
  [[nodiscard]] std::optional<double> decimal(const std::string& key);
  [[nodiscard]] std::optional<std::int64_t> duration_ms(const std::string& key);
  [[nodiscard]] std::vector<std::string> list(const std::string& key);
  [[nodiscard]] bool flag(const std::string& key);  // yes or no; no when it is not there

  // Every name and option was read; else the first one that nobody wanted is the error.
  void finish() const;

 private:
  std::string verb_;
  std::vector<std::string> names_;
  std::size_t next_name_ = 0;
  std::map<std::string, std::string> options_;  // not read yet
};

// `500ms`, `15s`, `2m`, `1h`, `1d`.
[[nodiscard]] std::int64_t parse_duration_ms(std::string_view text);
[[nodiscard]] std::uint64_t parse_number(std::string_view text);
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);

}  // namespace sluice::scenarios
