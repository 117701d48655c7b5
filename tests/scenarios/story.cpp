#include "tests/scenarios/story.h"

#include <array>
#include <charconv>
#include <utility>

namespace sluice::scenarios {

namespace {

constexpr std::string_view kIndent = "  ";

bool is_step(std::string_view line) {
  return line.starts_with("> ") || line.starts_with("t=");
}

// Splits at blanks outside of double quotes; the quotes go.
std::vector<std::string> tokens_of(std::string_view text) {
  std::vector<std::string> tokens;
  std::string token;
  bool is_quoted = false, is_token = false;
  for (const char c : text) {
    if (c == '"') {
      is_quoted = !is_quoted;
      is_token = true;
    } else if (c == ' ' && !is_quoted) {
      if (is_token) tokens.push_back(std::exchange(token, {}));
      is_token = false;
    } else {
      token += c;
      is_token = true;
    }
  }
  if (is_quoted) throw StoryError("a quotation mark is not closed");
  if (is_token) tokens.push_back(std::move(token));
  return tokens;
}

}  // namespace

std::vector<Block> parse_story(std::string_view text) {
  std::vector<Block> blocks;
  std::size_t number = 0;
  bool is_under_step = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++number;
    const auto error = [&](const char* why) {
      return StoryError(std::to_string(number) + ": " + why);
    };
    if (line.starts_with(kIndent)) {
      if (!is_under_step) throw error("expected output must stand right under a step");
      blocks.back().expected.emplace_back(line.substr(kIndent.size()));
      continue;
    }
    is_under_step = is_step(line);
    if (!is_under_step && !line.empty() && !line.starts_with("#"))
      throw error(
          "a line is a step (`> verb ...` or `t=+1s`), a comment (`# ...`), empty, or output "
          "(indented by two blanks)");
    blocks.push_back({number, std::string(line), is_under_step, {}});
  }
  return blocks;
}

std::string render_story(const std::vector<Block>& blocks) {
  std::string text;
  for (const Block& block : blocks) {
    text += block.text + "\n";
    for (const std::string& line : block.expected)
      text.append(kIndent).append(line).append("\n");
  }
  return text;
}

// ---------------------------------------------------------------- words

Words::Words(std::string_view step) {
  step.remove_prefix(std::min<std::size_t>(step.find_first_not_of("> "), step.size()));
  std::vector<std::string> tokens = tokens_of(step);
  if (tokens.empty()) throw StoryError("a step needs a verb");
  verb_ = tokens.front();
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const std::size_t equals = tokens[i].find('=');
    if (equals == std::string::npos) {
      names_.push_back(std::move(tokens[i]));
    } else if (!options_.emplace(tokens[i].substr(0, equals), tokens[i].substr(equals + 1))
                    .second) {
      throw StoryError(verb_ + " has " + tokens[i].substr(0, equals) + " twice");
    }
  }
}

std::string Words::name(const char* what) {
  if (next_name_ >= names_.size()) throw StoryError(verb_ + " needs " + what);
  return names_[next_name_++];
}

std::vector<std::string> Words::names(const char* what) {
  std::vector<std::string> all{name(what)};
  while (has_names())
    all.push_back(names_[next_name_++]);
  return all;
}

std::optional<std::string> Words::text(const std::string& key) {
  auto option = options_.extract(key);
  if (option.empty()) return std::nullopt;
  return std::move(option.mapped());
}

std::optional<std::uint64_t> Words::number(const std::string& key) {
  const auto value = text(key);
  if (!value) return std::nullopt;
  return parse_number(*value);
}

std::optional<double> Words::decimal(const std::string& key) {
  const auto value = text(key);
  if (!value) return std::nullopt;
  double number = 0;
  const char* end = value->data() + value->size();
  if (std::from_chars(value->data(), end, number).ptr != end || value->empty())
    throw StoryError(key + " is not a number: " + *value);
  return number;
}

std::optional<std::int64_t> Words::duration_ms(const std::string& key) {
  const auto value = text(key);
  if (!value) return std::nullopt;
  return parse_duration_ms(*value);
}

std::vector<std::string> Words::list(const std::string& key) {
  const auto value = text(key);
  return value ? split(*value, ',') : std::vector<std::string>{};
}

bool Words::flag(const std::string& key) {
  const auto value = text(key);
  if (value && *value != "yes" && *value != "no") throw StoryError(key + " is yes or no");
  return value == "yes";
}

void Words::finish() const {
  if (has_names()) throw StoryError(verb_ + " does not take the word '" + names_[next_name_] + "'");
  if (!options_.empty())
    throw StoryError(verb_ + " has no option '" + options_.begin()->first + "'");
}

// ---------------------------------------------------------------- values

std::int64_t parse_duration_ms(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 5> units = {
      {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};
  const std::size_t digits = text.find_first_not_of("0123456789");
  for (const auto& [unit, unit_ms] : units)
    if (digits != 0 && digits != text.npos && text.substr(digits) == unit)
      return static_cast<std::int64_t>(parse_number(text.substr(0, digits))) * unit_ms;
  throw StoryError("not a duration (500ms, 15s, 2m, 1h, 1d): " + std::string(text));
}

std::uint64_t parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    throw StoryError("not a number: " + std::string(text));
  return number;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  return parts;
}

}  // namespace sluice::scenarios
