// What is wrong with a command line, in words that lead on.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include "common/config_value.h"
#include "producer/cli/cli.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames())
      names.push_back("--" + name);
  return names;
}

std::string or_nothing(const std::string& near) {
  return near.empty() ? "" : fmt::format("; did you mean {}?", near);
}

std::string unknown_command(const CLI::App& app, const std::string& word) {
  const std::vector<std::string> names = command_names(app);
  const std::string near = nearest_name(word, names);
  if (!near.empty()) return fmt::format("'{}' is no command{}", word, or_nothing(near));
  return fmt::format("'{}' is no command; the commands are {}", word, fmt::join(names, ", "));
}

std::string unknown_argument(const CLI::App& app, const CLI::App* command, std::string word) {
  if (!word.starts_with('-')) return fmt::format("'{}' is one argument too many", word);
  word = word.substr(0, word.find('='));
  std::vector<std::string> flags = flag_names(app);
  if (command != nullptr)
    for (std::string& flag : flag_names(*command))
      flags.push_back(std::move(flag));
  return fmt::format("{} is no flag of this command{}",
                     word,
                     or_nothing(nearest_name(word, flags)));
}

}  // namespace

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const auto used = app.get_subcommands();
  const CLI::App* command = used.empty() ? nullptr : used.front();
  const std::vector<std::string> unread = app.remaining(true);
  std::string text = error.what();
  const bool is_unknown_command =
      command == nullptr && !unread.empty() && !unread.front().starts_with('-');
  if (is_unknown_command)
    text = unknown_command(app, unread.front());
  else if (!unread.empty())
    text = unknown_argument(app, command, unread.front());
  else if (command == nullptr && error.get_name() == "RequiredError")
    text = fmt::format("name a command: {}", fmt::join(command_names(app), ", "));
  return fmt::format("{}\nTry 'sluice {}--help'.",
                     text,
                     command == nullptr ? "" : command->get_name() + " ");
}

}  // namespace sluice::cli
