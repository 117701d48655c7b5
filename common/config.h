// The options of a program, from one table: an entry is at once a flag (`--heartbeat-ms`), an
// environment variable (`SLUICE_HEARTBEAT_MS`), a key of the TOML file (`heartbeat_ms`) and a line
// of `--help`. The flag wins over the environment, the environment over the file, the file over
// the default, which is the value the target variable holds when the entry is added.
//
//   ConfigTable table("sluice-broker", "Accepts jobs and hands them to worker nodes.");
//
//   table.group("Timing");
//
//   table.add_duration("heartbeat_ms", &config.heartbeat_ms, {100, 60'000}, "between statuses");
//
//   const auto action = table.parse(argc, argv);
//
//   if (!action) return table.explain(action.error());  // a line on stderr, exit status 2
//
//   if (action->is_final) return action->exit_code;  // --help, --version, --check-config
//
//   for (const auto& line : table.effective()) log::info("config", {{"option", line}});
//
// Not thread-safe; used once, at start. No entry may be added after parse().
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace sluice {

// How parse() ended when nothing was wrong.
struct ConfigAction {
  bool is_final = false;  // --help, --version or --check-config was answered: leave with exit_code
  int exit_code = 0;
  // --check-config was given. With a subtree in the table is_final stays false: the caller checks
  // what it reads itself, calls confirm() and leaves.
  bool is_check = false;
};

// Both ends are allowed values.
struct IntegerRange {
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
};

// Looks up an environment variable; nullptr when it is not set. As getenv(3). An empty value counts
// as not set, as compose files leave them.
using Environment = const char* (*)(const char* name);

class ConfigTable {
 public:
  // `program` as it stands on the command line, `purpose` one sentence for --help.
  ConfigTable(std::string program, std::string purpose);
  ~ConfigTable();
  ConfigTable(const ConfigTable&) = delete;
  ConfigTable& operator=(const ConfigTable&) = delete;

  // Entries added from now on stand under this title in --help.
  void group(std::string title);

  // Each adds one entry. `key` is the TOML key in snake_case: letters, digits and '_'. `target`
  // must outlive the table; it changes only when parse() succeeds. `help` is one line.
  void add_string(std::string key, std::string* target, std::string help);
  // As add_string; never shown by effective(), by --help or in an error, and read from the
  // environment and the file only: a flag would stand in the list of processes.
  void add_secret(std::string key, std::string* target, std::string help);
  // A flag alone means true; `--flag=false` takes it back. Elsewhere true/false, yes/no, on/off,
  // 1/0.
  void add_bool(std::string key, bool* target, std::string help);
  void add_integer(std::string key, std::int64_t* target, IntegerRange range, std::string help);
  void add_integer(std::string key, std::uint32_t* target, IntegerRange range, std::string help);
  // Milliseconds. A plain number counts milliseconds; `300ms`, `3s`, `30m`, `24h`, `7d` are taken
  // too.
  void add_duration(std::string key, std::int64_t* target, IntegerRange range, std::string help);
  // Bytes. A plain number counts bytes; `64KiB`, `512MiB`, `2GiB` (1024) and `1kB`, `1MB`, `1GB`
  // (1000).
  void add_bytes(std::string key, std::int64_t* target, IntegerRange range, std::string help);
  // One of `choices`.
  void add_choice(std::string key,
                  std::string* target,
                  std::vector<std::string> choices,
                  std::string help);
  // The flag may be repeated; the environment separates by commas; the file has an array of
  // strings. A higher source replaces the whole list.
  void add_list(std::string key, std::vector<std::string>* target, std::string help);

  // As add_list, but a comma is a part of the text: the flag may be repeated, the environment holds
  // one text.
  void add_texts(std::string key, std::vector<std::string>* target, std::string help);

  // A flag that is no setting: what the program is to do this once instead of its work. Neither the
  // environment nor the file has it, and effective() does not show it.
  void add_request(std::string flag, bool* target, std::string help);

  // Gives the entry `key`, which was added before, another environment variable; empty = none.
  void set_environment(std::string_view key, std::string name);

  // A TOML table that the caller reads by itself, as `[task.NAME]` of the worker. Its contents are
  // not checked here; subtree() hands them over.
  void allow_subtree(std::string key, std::string help);

  // What no single entry can check (two options that must agree): called by parse() when every
  // target has its value, before --check-config says that all is well. Its error is parse()'s.
  void check_with(std::function<Result<void>()> check);

  // The text below the options in --help, printed as it is; it says what the exit status means.
  void set_epilog(std::string text);

  // Reads the flags, the environment, and the file named by --config or SLUICE_CONFIG. Prints what
  // --help, --version and --check-config ask for. Errors: bad_field (`where` is the source, as
  // `--heartbeat-ms`, `SLUICE_HEARTBEAT_MS` or `broker.toml:7 heartbeat_ms`; `detail` holds value
  // and allowed range), not_found (the file). On an error no target has changed, but
  // for one of check_with().
  [[nodiscard]] Result<ConfigAction> parse(int argc, const char* const* argv);
  [[nodiscard]] Result<ConfigAction> parse(int argc,
                                           const char* const* argv,
                                           Environment environment);

  // Says on stdout that the configuration is valid, with effective(), and `more` lines of a
  // subtree.
  void confirm(const std::vector<std::string>& more = {}) const;

  // Prints `program: where: detail` to stderr with a pointer to --help; returns the exit status 2.
  int explain(const Error& error) const;

  // `key=value (source)` for every entry, in the order they were added; source is flag,
  // environment, file or default. A secret shows as `(set)` or `(unset)`, a password within an
  // address as `***`.
  [[nodiscard]] std::vector<std::string> effective() const;

  // The table [key] of the file as TOML text with `key` still in front ("[task.sha]\n..."), empty
  // when the file has none. For the caller's own toml++.
  [[nodiscard]] const std::string& subtree(std::string_view key) const;

  // The path given by --config, empty without one. Relative paths in a subtree start from its
  // folder.
  [[nodiscard]] const std::string& file() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
