#include "producer/cli/cli.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>

#include "common/utf8.h"
#include "producer/cli/job_arguments.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

constexpr const char* kFooter = R"(
Examples:
  sluice submit echo text=hello --wait        a job, and its result
  sluice submit resize @cat.jpg --priority high
  sluice submit --jsonl jobs.jsonl            many jobs: {"task": "echo", "payload": {...}} per line
  sluice get ID                               what became of it
  sluice logs -f ID                           what it logs, as it comes
  sluice list --tag AAPL

Exit status: 0 done; 1 a job failed or a request was refused; 2 wrong usage; 4 not found;
69 no broker reachable; 70 a bug of sluice; 75 refused for now, send the same again later;
124 the time allowed is over.
A TIME is written 300ms, 3s, 5m, 24h, 7d. `sluice COMMAND --help` says more.)";

constexpr const char* kEverywhere = R"(

With every command: --broker ADDRESS, --timeout TIME (for an answer of the broker), --json.
Exit status of every command: 2 wrong usage, 69 no broker reachable, 75 refused for now (send the same
again later), 124 no answer within --timeout.)";

// What was typed may be any bytes.
std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_global_options(CLI::App& app, Cli& cli) {
  app.add_option("--broker", cli.broker, "address of the broker (default tcp://127.0.0.1:7711)")
      ->type_name("ADDRESS")
      ->envname("SLUICE_BROKER");
  cli.timeout_option =
      app.add_option("--timeout", cli.timeout, "how long to wait for an answer of the broker")
          ->type_name("TIME")
          ->capture_default_str();
  app.add_flag("--json", cli.is_json, "machine-readable output; errors too, on stderr");
  app.set_version_flag("--version", "sluice " SLUICE_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
}

// Of what the command itself says.
std::string_view code_of(int exit_code) {
  if (exit_code == kExitUsage) return "usage";
  if (exit_code == kExitTimeout) return "timeout";
  return exit_code == kExitNotFound ? "not_found" : "failed";
}

std::string_view code_of(const ClientError& error) {
  if (error.failure == ClientFailure::unreachable) return "unreachable";
  if (error.failure == ClientFailure::silent) return "no_answer";
  return to_string(error.error.code);
}

}  // namespace

Client& Cli::client() {
  if (!client_) {
    ClientOptions options;
    options.broker = broker;
    options.timeout_ms = timeout_ms();
    try {
      client_ = std::make_unique<Client>(std::move(options));
    } catch (const std::runtime_error& error) {
      throw CLI::ValidationError("--broker", error.what());
    }
  }
  return *client_;
}

bool Cli::has_timeout() const {
  return timeout_option->count() != 0;
}

std::int64_t Cli::timeout_ms() const {
  const std::int64_t value_ms = duration_option("--timeout", timeout);
  if (value_ms == 0) throw CLI::ValidationError("--timeout", "must be longer than 0");
  return value_ms;
}

int Cli::fail(int code, std::string_view message) const {
  if (is_json)
    print_error(line_of({{"error", {{"code", code_of(code)}, {"message", message}}}}));
  else
    print_error(fmt::format("sluice: {}\n", printable(message)));
  return code;
}

void Cli::warn(std::string_view message) const {
  if (is_json)
    print_error(line_of({{"warning", {{"message", message}}}}));
  else
    print_error(fmt::format("sluice: {}\n", printable(message)));
}

int Cli::fail(const ClientError& error, std::string_view id) const {
  if (is_json) {
    Json body = {{"code", code_of(error)},
                 {"field", error.error.where},
                 {"message", error.error.detail},
                 {"retryable", error.is_retryable}};
    if (!id.empty()) body["id"] = id;
    print_error(line_of({{"error", body}}));
  } else {
    print_error(fmt::format("sluice: {}\n", printable(error.message())));
  }
  return exit_code_of(error);
}

int exit_code_of(const ClientError& error) {
  if (error.failure == ClientFailure::unreachable) return kExitUnavailable;
  if (error.failure == ClientFailure::silent) return kExitTimeout;
  if (error.error.code == ErrorCode::not_found) return kExitNotFound;
  if (error.is_retryable) return kExitTryAgain;
  return kExitFailed;
}

std::int64_t duration_option(std::string_view option, const std::string& text) {
  const auto value_ms = read_span(option, text);
  if (!value_ms) throw CLI::ValidationError(value_ms.error().where, value_ms.error().detail);
  return *value_ms;
}

std::vector<JobId> id_arguments(const std::vector<std::string>& texts) {
  std::vector<JobId> ids;
  ids.reserve(texts.size());
  for (const std::string& text : texts) {
    if (!is_job_id(text))
      throw CLI::ValidationError(
          "ID",
          fmt::format("'{}' is no job id (1 to 64 of A-Z a-z 0-9 _ . : -)", text));
    ids.emplace_back(text);
  }
  return ids;
}

void print_json(const Json& document) {
  fmt::print("{}\n", document.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void set_footer(CLI::App& command, std::string_view text) {
  command.footer("\n" + std::string(text) + kEverywhere);
}

namespace {

// Whether what stands behind `name` is its value.
bool takes_value(const CLI::App& app, const std::string& name) {
  const auto has = [&name](const CLI::App* command) {
    const CLI::Option* option = command->get_option_no_throw(name);
    return option != nullptr && option->get_items_expected_max() > 0;
  };
  if (!name.starts_with('-')) return false;
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  return has(&app) || std::ranges::any_of(commands, has);
}

// As CLI11 wants them, the last first. It takes `[...]` apart as a list of its own where several
// arguments may stand; ours is a JSON array, for which a blank behind it is nothing.
std::vector<std::string> arguments_of(const CLI::App& app, int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool is_array = arguments[i].starts_with('[') && arguments[i].ends_with(']');
    if (is_array && (i == 0 || !takes_value(app, arguments[i - 1]))) arguments[i] += ' ';
  }
  std::ranges::reverse(arguments);
  return arguments;
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app{"Hand jobs to a Sluice broker and see what becomes of them.", "sluice"};
  Cli cli;
  add_global_options(app, cli);
  add_submit(app, cli);
  add_get(app, cli);
  add_wait(app, cli);
  add_list(app, cli);
  add_changes(app, cli);
  add_queues(app, cli);
  add_workers(app, cli);
  add_stats(app, cli);
  add_events(app, cli);
  add_logs(app, cli);
  try {
    app.parse(arguments_of(app, argc, argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    // A line that could not be read to its end has set nothing yet.
    cli.is_json = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;
    return cli.fail(kExitUsage, usage_message(app, error));
  } catch (const std::system_error& error) {
    // What fmt throws when a print fails; the clients' own errors are values.
    return cli.fail(kExitFailed, fmt::format("what was done cannot be told: {}", error.what()));
  } catch (const std::exception& error) {
    return cli.fail(kExitInternal, fmt::format("a bug: {}", error.what()));
  }
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return cli.exit_code;
  const std::string why = std::error_code(errno, std::generic_category()).message();
  return cli.fail(std::max<int>(cli.exit_code, kExitFailed),
                  fmt::format("what was done cannot be told on stdout: {}", why));
}

}  // namespace sluice::cli
