#include "common/config_entry.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/config_value.h"

namespace sluice::config {

namespace {

tl::unexpected<std::string> refuse(const std::string& value, const std::string& allowed) {
  return tl::unexpected("'" + without_password(value) + "' is not allowed; allowed: " + allowed);
}

using ReadNumber = std::optional<std::int64_t> (*)(std::string_view);
using ShowNumber = std::string (*)(std::int64_t);

std::string show_integer(std::int64_t value) {
  return std::to_string(value);
}

struct NumberKind {
  ReadNumber read;
  ShowNumber show;
  const char* type;
  const char* example;  // appended to the allowed range
};

constexpr NumberKind kInteger = {read_integer, show_integer, "N", ""};
constexpr NumberKind kDuration = {
    read_duration_ms, show_duration_ms, "TIME", ", as 300ms, 3s, 30m, 24h, 7d"};
constexpr NumberKind kBytes = {read_bytes, show_bytes, "SIZE", ", as 64KiB, 512MiB, 2GiB"};

std::string show_range(const NumberKind& kind, IntegerRange range) {
  if (range.max == IntegerRange{}.max) return "at least " + kind.show(range.min);
  return kind.show(range.min) + " to " + kind.show(range.max);
}

template <typename T>
Entry number_entry(std::string key,
                   T* target,
                   IntegerRange range,
                   const NumberKind& kind,
                   const std::string& help) {
  Entry entry;
  entry.key = std::move(key);
  entry.type = kind.type;
  entry.help = help + " (" + show_range(kind, range) + ")";
  entry.read = [target, range, kind](const Texts& texts) -> Reading {
    const std::string& text = texts.back();
    const auto value = kind.read(text);
    if (!value || *value < range.min || *value > range.max) {
      return refuse(text, show_range(kind, range) + kind.example);
    }
    return Commit([target, number = static_cast<T>(*value)] { *target = number; });
  };
  entry.show = [target, kind] {
    return kind.show(static_cast<std::int64_t>(*target));
  };
  return entry;
}

}  // namespace

std::string flag_of(const std::string& key) {
  std::string flag = "--" + key;
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string environment_of(const std::string& key) {
  std::string name = "SLUICE_" + key;
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return name;
}

std::string join(const Texts& texts, const char* between) {
  std::string out;
  for (const std::string& text : texts)
    out += (out.empty() ? "" : between) + text;
  return out;
}

Entry text_entry(std::string key, std::string* target, std::string help) {
  Entry entry;
  entry.key = std::move(key);
  entry.type = "TEXT";
  entry.help = std::move(help);
  entry.read = [target](const Texts& texts) -> Reading {
    return Commit([target, text = texts.back()] { *target = text; });
  };
  entry.show = [target] {
    return without_password(*target);
  };
  return entry;
}

Entry secret_entry(std::string key, std::string* target, std::string help) {
  Entry entry = text_entry(std::move(key), target, std::move(help));
  entry.is_secret = true;
  entry.show = [target] {
    return target->empty() ? "(unset)" : "(set)";
  };
  return entry;
}

Entry bool_entry(std::string key, bool* target, std::string help) {
  Entry entry;
  entry.key = std::move(key);
  entry.help = std::move(help);
  entry.read = [target](const Texts& texts) -> Reading {
    const auto value = read_bool(texts.back());
    if (!value) return refuse(texts.back(), "true or false");
    return Commit([target, flag = *value] { *target = flag; });
  };
  entry.show = [target] {
    return *target ? "true" : "false";
  };
  return entry;
}

Entry integer_entry(std::string key,
                    std::int64_t* target,
                    IntegerRange range,
                    const std::string& help) {
  return number_entry(std::move(key), target, range, kInteger, help);
}

Entry integer_entry(std::string key,
                    std::uint32_t* target,
                    IntegerRange range,
                    const std::string& help) {
  range.min = std::max<std::int64_t>(range.min, 0);
  range.max = std::min<std::int64_t>(range.max, std::numeric_limits<std::uint32_t>::max());
  return number_entry(std::move(key), target, range, kInteger, help);
}

Entry duration_entry(std::string key,
                     std::int64_t* target,
                     IntegerRange range,
                     const std::string& help) {
  return number_entry(std::move(key), target, range, kDuration, help);
}

Entry bytes_entry(std::string key,
                  std::int64_t* target,
                  IntegerRange range,
                  const std::string& help) {
  return number_entry(std::move(key), target, range, kBytes, help);
}

Entry choice_entry(std::string key,
                   std::string* target,
                   std::vector<std::string> choices,
                   std::string help) {
  Entry entry = text_entry(std::move(key), target, std::move(help));
  entry.type = join(choices, "|");
  entry.read = [target, choices = std::move(choices)](const Texts& texts) -> Reading {
    if (std::ranges::find(choices, texts.back()) == choices.end()) {
      return refuse(texts.back(), join(choices, ", "));
    }
    return Commit([target, text = texts.back()] { *target = text; });
  };
  return entry;
}

Entry list_entry(std::string key, std::vector<std::string>* target, std::string help) {
  Entry entry;
  entry.key = std::move(key);
  entry.help = std::move(help);
  entry.is_list = true;
  entry.read = [target](const Texts& texts) -> Reading {
    return Commit([target, texts] { *target = texts; });
  };
  entry.show = [target] {
    Texts shown;
    for (const std::string& text : *target)
      shown.push_back(without_password(text));
    return join(shown, ",");
  };
  return entry;
}

}  // namespace sluice::config
