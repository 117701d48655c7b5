// What the commands of `sluice` share: the global options, the client, and how a run ends.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/exit_codes.h"
#include "producer/client.h"

#include <nlohmann/json.hpp>

// CLI11 takes seconds to compile: only what defines options includes it.
namespace CLI {
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace sluice {
class EventStream;
}

namespace sluice::cli {

using Json = nlohmann::ordered_json;

struct Cli {
  std::string broker;
  std::string timeout = "5s";
  bool is_json = false;
  int exit_code = kExitOk;

  // Connects at its first use.
  Client& client();
  // `message` to stderr as `sluice: message` (with --json as {"error": ...}); ends with `code`.
  int fail(int code, std::string_view message) const;
  // `id`, if any: of the job that this is about; JSON alone has it.
  int fail(const ClientError& error, std::string_view id = {}) const;
  // The same for what does not end the command.
  void warn(std::string_view message) const;

  // Whether --timeout stands on the command line.
  [[nodiscard]] bool has_timeout() const;

  // Of --timeout. Throws CLI::ValidationError for what is none.
  [[nodiscard]] std::int64_t timeout_ms() const;

  CLI::Option* timeout_option = nullptr;

 private:
  std::unique_ptr<Client> client_;
};

// The exit status that a refusal or a lost broker means.
[[nodiscard]] int exit_code_of(const ClientError& error);
// `300ms`, `3s`, `5m`, `24h`, `7d`, or milliseconds; throws CLI::ValidationError naming `option`.
[[nodiscard]] std::int64_t duration_option(std::string_view option, const std::string& text);
// Job ids; throws CLI::ValidationError for one outside the grammar.
[[nodiscard]] std::vector<JobId> id_arguments(const std::vector<std::string>& texts);
// --events, or SLUICE_EVENTS; `address` has the default until then.
void add_events_option(CLI::App& command, std::string& address);
// Throws CLI::ValidationError for what is no address.
[[nodiscard]] std::unique_ptr<EventStream> open_events(const std::string& address,
                                                       const std::vector<std::string>& topics);
void print_json(const Json& document);
// Examples and exit status under a command's --help; what holds for every command is added.
void set_footer(CLI::App& command, std::string_view text);
// What is wrong with the command line, with the nearest name that is right, and where to read on.
[[nodiscard]] std::string usage_message(const CLI::App& app, const CLI::ParseError& error);

// One command (or a group of them) each; declared together because main() adds them all.
void add_submit(CLI::App& app, Cli& cli);
void add_get(CLI::App& app, Cli& cli);
void add_wait(CLI::App& app, Cli& cli);
void add_list(CLI::App& app, Cli& cli);
void add_changes(CLI::App& app, Cli& cli);  // cancel, retry, delete
void add_queues(CLI::App& app, Cli& cli);   // queues, pause, resume, purge
void add_workers(CLI::App& app, Cli& cli);  // workers, drain
void add_stats(CLI::App& app, Cli& cli);    // stats, ping
void add_events(CLI::App& app, Cli& cli);
void add_logs(CLI::App& app, Cli& cli);

// Waits with a progress bar, prints what ended, returns the exit status (`wait` and `submit
// --wait`).
int wait_for(Cli& cli, const std::vector<JobId>& ids, std::int64_t wait_ms);

// The whole command, main() but for its name. Returns the exit status.
int run(int argc, const char* const* argv);

}  // namespace sluice::cli
