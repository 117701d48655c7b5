#include "common/config.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "common/check.h"
#include "common/config_entry.h"
#include "common/config_value.h"
#include "common/exit_codes.h"
#include "common/utf8.h"

#include <CLI/CLI.hpp>
#include <toml++/toml.h>

namespace sluice {

namespace {

using config::Commit;
using config::Entry;
using config::environment_of;
using config::flag_of;
using config::join;
using config::Texts;

// A value of the file in the words of a flag; nothing when its type can never be meant.
std::optional<Texts> texts_of(const toml::node& node, bool is_list) {
  if (const auto* text = node.as_string()) return Texts{text->get()};
  if (is_list && node.is_array()) {
    Texts texts;
    for (const toml::node& element : *node.as_array()) {
      if (!element.is_string()) return std::nullopt;
      texts.push_back(element.as_string()->get());
    }
    return texts;
  }
  if (is_list) return std::nullopt;
  if (const auto* number = node.as_integer()) return Texts{std::to_string(number->get())};
  if (const auto* flag = node.as_boolean()) return Texts{flag->get() ? "true" : "false"};
  if (const auto* number = node.as_floating_point()) return Texts{std::to_string(number->get())};
  return std::nullopt;
}

std::string place(const std::string& path, const toml::source_region& source) {
  return path + ":" + std::to_string(source.begin.line);
}

constexpr std::size_t kFileBytesMax = 1 << 20;

Result<toml::table> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorCode::not_found, path, "the configuration file cannot be opened");
  std::string text(kFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.bad()) return fail(ErrorCode::not_found, path, "the configuration file cannot be read");
  if (text.size() > kFileBytesMax)
    return fail(ErrorCode::too_large, path, "a configuration file has at most 1 MiB");
  try {
    return toml::parse(text, std::string_view(path));
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::bad_field, place(path, error.source()), error.what());
  }
}

}  // namespace

struct ConfigTable::Impl {
  std::string program;
  std::string purpose;
  std::string current_group = "Options";
  std::function<Result<void>()> check;
  std::string epilog;
  std::vector<std::unique_ptr<Entry>>
      entries;  // their addresses stand in the command line's parser
  std::map<std::string, std::string, std::less<>> subtrees;
  std::map<std::string, std::string, std::less<>> subtree_help;
  std::string file;

  struct Request {
    std::string flag;
    bool* target;
    std::string help;
  };

  std::vector<Request> requests;

  void add(Entry entry) {
    entry.group = current_group;
    entry.environment = environment_of(entry.key);
    entries.push_back(std::make_unique<Entry>(std::move(entry)));
  }

  // The line of --help, with the default and the other two names.
  [[nodiscard]] std::string description(const Entry& entry) const {
    const std::string shown = entry.is_secret ? "" : entry.show();
    std::string line = entry.help;
    if (!shown.empty()) line += " [" + shown + "]";
    return line;
  }

  void describe(CLI::App& app) {
    for (const auto& entry : entries) {
      if (entry->is_secret) continue;
      const std::string flag = flag_of(entry->key);
      if (entry->type.empty()) {
        entry->option = app.add_flag(flag, entry->flag_texts, description(*entry));
      } else {
        entry->option = app.add_option(flag, entry->flag_texts, description(*entry));
        entry->option->type_name(entry->type)->type_size(1)->expected(1)->allow_extra_args(false);
      }
      entry->option->multi_option_policy(entry->is_list ? CLI::MultiOptionPolicy::TakeAll
                                                        : CLI::MultiOptionPolicy::TakeLast);
      entry->option->group(entry->group);
    }
  }

  [[nodiscard]] std::string footer() const {
    std::string text =
        "Every option is also an environment variable and a key of the file: --log-level, "
        "SLUICE_LOG_LEVEL,\nlog_level = \"info\". The flag wins over the environment, the "
        "environment over the file.\n";
    for (const auto& entry : entries) {
      if (!entry->is_secret) continue;
      text += "Secret, not a flag: " + entry->environment + " or " + entry->key +
              " in the file: " + entry->help + "\n";
    }
    for (const auto& [key, help] : subtree_help)
      text += "In the file, [" + key + "...]: " + help + "\n";
    if (!epilog.empty()) return text + "\n" + epilog;
    return text +
           "\nExit status: 0 done, 1 failed, 2 wrong option or configuration, 3 ownership lost,\n"
           "69 broker or Redis unreachable, 70 a bug, 124 time allowed is over.";
  }

  [[nodiscard]] Texts names(std::string (*shape)(const std::string&)) const {
    Texts out;
    for (const auto& entry : entries)
      out.push_back(shape(entry->key));
    return out;
  }

  // Checks one source of one entry; appends what sets it.
  Result<void> take(Entry& entry,
                    const Texts& texts,
                    const char* source,
                    const std::string& where,
                    std::map<Entry*, std::pair<Commit, std::string>>& commits) {
    auto reading = entry.read(texts);
    if (!reading) return fail(ErrorCode::bad_field, where, std::move(reading.error()));
    commits[&entry] = {std::move(*reading), source};
    return {};
  }

  using Commits = std::map<Entry*, std::pair<Commit, std::string>>;

  Result<void> take_file(const toml::table& file_table, const std::string& path, Commits& commits) {
    for (const auto& [key_node, node] : file_table) {
      const std::string key(key_node.str());
      const std::string where = place(path, node.source()) + " " + key;
      if (subtree_help.contains(key)) {
        if (!node.is_table() && !node.is_array_of_tables()) {
          return fail(ErrorCode::bad_field, where, "is a table: write [" + key + ".NAME]");
        }
        toml::table alone;
        alone.insert(key, node);
        std::ostringstream text;
        text << alone << '\n';
        subtrees[key] = text.str();
        continue;
      }
      const auto found = std::ranges::find(entries, key, [](const auto& e) { return e->key; });
      if (found == entries.end()) return fail(ErrorCode::bad_field, where, unknown_key(key));
      const auto texts = texts_of(node, (*found)->is_list);
      if (!texts) {
        return fail(ErrorCode::bad_field,
                    where,
                    (*found)->is_list ? "is a list of strings: [\"a\", \"b\"]"
                                      : "is one value, not a table, list or date");
      }
      if (auto taken = take(**found, *texts, "file", where, commits); !taken) return taken;
    }
    return {};
  }

  [[nodiscard]] std::string unknown_key(const std::string& key) const {
    Texts known = names([](const std::string& name) { return name; });
    for (const auto& [name, help] : subtree_help)
      known.push_back(name);
    const std::string near = nearest_name(key, known);
    return near.empty() ? "is not a known key" : "is not a known key; did you mean " + near + "?";
  }

  Result<void> take_environment(Environment environment, Commits& commits) {
    for (const auto& entry : entries) {
      const std::string& name = entry->environment;
      const char* value = name.empty() ? nullptr : environment(name.c_str());
      if (value == nullptr || *value == '\0') continue;
      const Texts texts = entry->has_commas ? split_by_commas(value) : Texts{value};
      if (auto taken = take(*entry, texts, "environment", name, commits); !taken) return taken;
    }
    return {};
  }

  Result<void> take_flags(Commits& commits) {
    for (const auto& entry : entries) {
      if (entry->option == nullptr || entry->option->count() == 0) continue;
      Texts texts = entry->flag_texts;
      if (entry->has_commas) texts = split_by_commas(join(texts, ","));
      const std::string flag = flag_of(entry->key);
      if (auto taken = take(*entry, texts, "flag", flag, commits); !taken) return taken;
    }
    return {};
  }

  [[nodiscard]] Error unknown_argument(const std::string& argument) const {
    if (!argument.starts_with("-")) {
      return {ErrorCode::bad_field, argument, "is not an option; this program takes no arguments"};
    }
    Texts known = names(flag_of);
    for (const Request& request : requests)
      known.push_back(request.flag);
    known.insert(known.end(), {"--config", "--check-config", "--help", "--version"});
    const std::string flag = argument.substr(0, argument.find('='));
    for (const auto& entry : entries)
      if (entry->is_secret && flag_of(entry->key) == flag)
        return {
            ErrorCode::bad_field,
            flag,
            "is a secret, which every user of the machine could read in the process list: set " +
                environment_of(entry->key) + ", or " + entry->key + " in the file"};
    const std::string near = nearest_name(flag, known);
    return {
        ErrorCode::bad_field,
        flag,
        near.empty() ? "is not a known flag" : "is not a known flag; did you mean " + near + "?"};
  }
};

ConfigTable::ConfigTable(std::string program, std::string purpose)
    : impl_(std::make_unique<Impl>()) {
  impl_->program = std::move(program);
  impl_->purpose = std::move(purpose);
}

ConfigTable::~ConfigTable() = default;

void ConfigTable::group(std::string title) {
  impl_->current_group = std::move(title);
}

void ConfigTable::add_string(std::string key, std::string* target, std::string help) {
  impl_->add(config::text_entry(std::move(key), target, std::move(help)));
}

void ConfigTable::add_secret(std::string key, std::string* target, std::string help) {
  impl_->add(config::secret_entry(std::move(key), target, std::move(help)));
}

void ConfigTable::add_bool(std::string key, bool* target, std::string help) {
  impl_->add(config::bool_entry(std::move(key), target, std::move(help)));
}

void ConfigTable::add_integer(std::string key,
                              std::int64_t* target,
                              IntegerRange range,
                              std::string help) {
  impl_->add(config::integer_entry(std::move(key), target, range, help));
}

void ConfigTable::add_integer(std::string key,
                              std::uint32_t* target,
                              IntegerRange range,
                              std::string help) {
  impl_->add(config::integer_entry(std::move(key), target, range, help));
}

void ConfigTable::add_duration(std::string key,
                               std::int64_t* target,
                               IntegerRange range,
                               std::string help) {
  impl_->add(config::duration_entry(std::move(key), target, range, help));
}

void ConfigTable::add_bytes(std::string key,
                            std::int64_t* target,
                            IntegerRange range,
                            std::string help) {
  impl_->add(config::bytes_entry(std::move(key), target, range, help));
}

void ConfigTable::add_choice(std::string key,
                             std::string* target,
                             std::vector<std::string> choices,
                             std::string help) {
  impl_->add(config::choice_entry(std::move(key), target, std::move(choices), std::move(help)));
}

void ConfigTable::add_list(std::string key, std::vector<std::string>* target, std::string help) {
  config::Entry entry = config::list_entry(std::move(key), target, std::move(help));
  entry.type = "TEXT,...";
  entry.has_commas = true;
  impl_->add(std::move(entry));
}

void ConfigTable::add_texts(std::string key, std::vector<std::string>* target, std::string help) {
  config::Entry entry = config::list_entry(std::move(key), target, std::move(help));
  entry.type = "TEXT";
  impl_->add(std::move(entry));
}

void ConfigTable::add_request(std::string flag, bool* target, std::string help) {
  impl_->requests.push_back({std::move(flag), target, std::move(help)});
}

void ConfigTable::set_environment(std::string_view key, std::string name) {
  const auto found = std::ranges::find(impl_->entries, key, [](const auto& e) { return e->key; });
  CHECK(found != impl_->entries.end());
  (*found)->environment = std::move(name);
}

void ConfigTable::allow_subtree(std::string key, std::string help) {
  impl_->subtree_help.emplace(std::move(key), std::move(help));
}

void ConfigTable::check_with(std::function<Result<void>()> check) {
  impl_->check = std::move(check);
}

void ConfigTable::set_epilog(std::string text) {
  impl_->epilog = std::move(text);
}

Result<ConfigAction> ConfigTable::parse(int argc, const char* const* argv) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): once, before there is a second thread
  return parse(argc, argv, [](const char* name) -> const char* { return std::getenv(name); });
}

Result<ConfigAction> ConfigTable::parse(int argc,
                                        const char* const* argv,
                                        Environment environment) {
  CLI::App app(impl_->purpose, impl_->program);
  std::string path;
  ConfigAction action;
  app.get_formatter()->column_width(40);
  app.set_help_flag("-h,--help", "what you are reading");
  app.set_version_flag("--version", impl_->program + " " SLUICE_VERSION);
  app.add_option("--config", path, "the configuration file (SLUICE_CONFIG)")->type_name("FILE");
  app.add_flag("--check-config", action.is_check, "check flags, environment and file, and leave");
  for (const Impl::Request& request : impl_->requests)
    app.add_flag(request.flag, *request.target, request.help);
  impl_->describe(app);
  app.footer(impl_->footer());
  app.allow_extras();
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return ConfigAction{.is_final = true, .exit_code = kExitOk};
  } catch (const CLI::CallForVersion&) {
    std::puts((impl_->program + " " SLUICE_VERSION).c_str());
    return ConfigAction{.is_final = true, .exit_code = kExitOk};
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::bad_field, "command line", error.what());
  }
  if (!app.remaining().empty()) {
    return tl::unexpected(impl_->unknown_argument(app.remaining().front()));
  }

  const char* named = environment("SLUICE_CONFIG");
  if (path.empty() && named != nullptr) path = named;
  Impl::Commits commits;
  if (!path.empty()) {
    auto file = read_file(path);
    if (!file) return tl::unexpected(file.error());
    if (auto taken = impl_->take_file(*file, path, commits); !taken) {
      return tl::unexpected(taken.error());
    }
  }
  if (auto taken = impl_->take_environment(environment, commits); !taken) {
    return tl::unexpected(taken.error());
  }
  if (auto taken = impl_->take_flags(commits); !taken) return tl::unexpected(taken.error());

  for (auto& [entry, commit] : commits) {
    commit.first();
    entry->source = commit.second;
  }
  impl_->file = path;
  if (impl_->check) {
    if (auto checked = impl_->check(); !checked) return tl::unexpected(checked.error());
  }
  if (action.is_check && impl_->subtree_help.empty()) {
    confirm();
    action.is_final = true;
  }
  return action;
}

void ConfigTable::confirm(const std::vector<std::string>& more) const {
  for (const auto& lines : {effective(), more})
    for (const std::string& line : lines)
      std::puts(printable(line).c_str());
  std::puts((impl_->program + ": the configuration is valid").c_str());
}

int ConfigTable::explain(const Error& error) const {
  const std::string where = error.where.empty() ? "" : error.where + ": ";
  std::fprintf(stderr,
               "%s: %s\nTry '%s --help'.\n",
               impl_->program.c_str(),
               printable(where + error.detail).c_str(),
               impl_->program.c_str());
  return kExitUsage;
}

std::vector<std::string> ConfigTable::effective() const {
  std::vector<std::string> lines;
  for (const auto& entry : impl_->entries) {
    lines.push_back(entry->key + "=" + entry->show() + " (" + entry->source + ")");
  }
  return lines;
}

const std::string& ConfigTable::subtree(std::string_view key) const {
  static const std::string kNone;
  const auto found = impl_->subtrees.find(key);
  return found == impl_->subtrees.end() ? kNone : found->second;
}

const std::string& ConfigTable::file() const {
  return impl_->file;
}

}  // namespace sluice
