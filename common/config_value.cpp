#include "common/config_value.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

namespace sluice {

namespace {

struct Unit {
  std::string_view name;
  std::int64_t factor;
};

constexpr Unit kDurationUnits[] = {
    {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};
constexpr Unit kByteUnits[] = {{"GiB", 1LL << 30},
                               {"MiB", 1LL << 20},
                               {"KiB", 1LL << 10},
                               {"GB", 1'000'000'000},
                               {"MB", 1'000'000},
                               {"kB", 1000},
                               {"B", 1}};

std::optional<std::int64_t> read_with_unit(std::string_view text, std::span<const Unit> units) {
  const std::size_t digits_end = text.find_last_of("0123456789");
  if (digits_end == std::string_view::npos) return std::nullopt;
  const std::string_view name = text.substr(digits_end + 1);
  const auto number = read_integer(text.substr(0, digits_end + 1));
  if (!number || name.empty()) return number;
  const auto unit = std::ranges::find(units, name, &Unit::name);
  if (unit == units.end()) return std::nullopt;
  std::int64_t product = 0;
  if (__builtin_mul_overflow(*number, unit->factor, &product)) return std::nullopt;
  return product;
}

std::string show_with_unit(std::int64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value == 0 || value % unit.factor != 0) continue;
    return std::to_string(value / unit.factor) + std::string(unit.name);
  }
  return std::to_string(value);
}

// Levenshtein's distance, one row at a time.
std::size_t edit_count(std::string_view left, std::string_view right) {
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < left.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < right.size(); ++j) {
      const std::size_t replaced = diagonal + (left[i] == right[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::optional<bool> read_bool(std::string_view text) {
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  return std::nullopt;
}

std::optional<std::int64_t> read_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> read_duration_ms(std::string_view text) {
  return read_with_unit(text, kDurationUnits);
}

std::optional<std::int64_t> read_bytes(std::string_view text) {
  return read_with_unit(text, kByteUnits);
}

std::string show_duration_ms(std::int64_t value_ms) {
  return show_with_unit(value_ms, kDurationUnits);
}

std::string show_bytes(std::int64_t value_bytes) {
  return show_with_unit(value_bytes, std::span(kByteUnits).first(3));
}

std::vector<std::string> split_by_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (part.starts_with(' '))
      part.remove_prefix(1);
    while (part.ends_with(' '))
      part.remove_suffix(1);
    if (!part.empty()) parts.emplace_back(part);
  }
  return parts;
}

std::string without_password(std::string_view text) {
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos) return std::string(text);
  const std::size_t user = scheme + 3;
  // A password may itself hold '/' or '@' written carelessly: hide up to the last '@'.
  const std::size_t at = text.rfind('@');
  const std::size_t colon = text.find(':', user);
  if (at == std::string_view::npos || colon > at) return std::string(text);
  return std::string(text.substr(0, colon + 1)) + "***" + std::string(text.substr(at));
}

std::string nearest_name(std::string_view wrong, std::span<const std::string> names) {
  std::string best;
  std::size_t best_count = std::max<std::size_t>(2, wrong.size() / 3) + 1;
  for (const std::string& name : names) {
    const std::size_t count = edit_count(wrong, name);
    if (count < best_count) {
      best = name;
      best_count = count;
    }
  }
  return best;
}

}  // namespace sluice
