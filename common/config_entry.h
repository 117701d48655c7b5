// One option of a ConfigTable: how its texts are read, checked and shown, whatever source they come
// from. Internal to common/config.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config.h"

namespace CLI {
class Option;
}

namespace sluice::config {

using Texts = std::vector<std::string>;
using Commit = std::function<void()>;

// What a reader of one kind of value makes of texts: how to set the target, or what is wrong.
using Reading = tl::expected<Commit, std::string>;

struct Entry {
  std::string key;
  std::string group;
  std::string type;  // as --help names the value; empty for a bool
  std::string help;
  std::function<Reading(const Texts&)> read;
  std::function<std::string()> show;
  bool is_secret = false;
  bool is_list = false;
  bool has_commas = false;  // a comma separates two texts of a list
  std::string environment;  // the variable's name; empty = none
  std::string source = "default";
  // Filled by the command line.
  Texts flag_texts;
  CLI::Option* option = nullptr;
};

// `--heartbeat-ms` and `SLUICE_HEARTBEAT_MS` of the key `heartbeat_ms`.
[[nodiscard]] std::string flag_of(const std::string& key);
[[nodiscard]] std::string environment_of(const std::string& key);
[[nodiscard]] std::string join(const Texts& texts, const char* between);

// An entry of each kind; `target` must outlive it. The rest is for the table to fill in.
[[nodiscard]] Entry text_entry(std::string key, std::string* target, std::string help);
[[nodiscard]] Entry secret_entry(std::string key, std::string* target, std::string help);
[[nodiscard]] Entry bool_entry(std::string key, bool* target, std::string help);
[[nodiscard]] Entry integer_entry(std::string key,
                                  std::int64_t* target,
                                  IntegerRange range,
                                  const std::string& help);
[[nodiscard]] Entry integer_entry(std::string key,
                                  std::uint32_t* target,
                                  IntegerRange range,
                                  const std::string& help);
[[nodiscard]] Entry duration_entry(std::string key,
                                   std::int64_t* target,
                                   IntegerRange range,
                                   const std::string& help);
[[nodiscard]] Entry bytes_entry(std::string key,
                                std::int64_t* target,
                                IntegerRange range,
                                const std::string& help);
[[nodiscard]] Entry choice_entry(std::string key,
                                 std::string* target,
                                 std::vector<std::string> choices,
                                 std::string help);
[[nodiscard]] Entry list_entry(std::string key, Texts* target, std::string help);

}  // namespace sluice::config
