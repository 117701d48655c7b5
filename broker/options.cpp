#include "broker/options.h"

#include "broker/store/redis_address.h"
#include "common/address.h"

namespace sluice {

namespace {

constexpr std::int64_t kDayMs = 24LL * 3600 * 1000;

constexpr const char* kEpilog =
    "Without any option it listens on 127.0.0.1 and keeps its jobs in a Redis of its own.\n"
    "\nExamples:\n"
    "  sluice-broker --data /var/lib/sluice --memory-max 2GiB\n"
    "  sluice-broker --redis unix:///run/redis/redis.sock --keep-ms 7d --keep-count 100000\n"
    "  sluice-broker --config broker.toml --check-config\n"
    "Then: `sluice ping`, and `sluice-worker` on this machine or another. SIGTERM stops it in "
    "order.\n\n"
    "Exit status: 0 stopped in order, 1 failed, 2 wrong configuration, 3 another broker owns the "
    "state,\n"
    "69 Redis cannot be used, or stopped before all was read.\n";

void describe_addresses(ConfigTable& table, BrokerOptions& options) {
  table.group("Where it listens");
  table.add_string("producers", &options.producers, "address for producers and the sluice command");
  table.add_string("workers", &options.workers, "address for worker nodes");
  table.add_string("events", &options.events, "address for watchers of events");
  table.add_bool(
      "insecure",
      &options.is_insecure,
      "listen off the loopback without keys: anybody who reaches the ports may do everything");
}

void describe_store(ConfigTable& table, BrokerOptions& options) {
  table.group("Where the jobs are kept");
  table.add_string(
      "redis",
      &options.redis,
      "unix:///path or redis://user@host:port/db; empty = a private redis-server in --data");
  table.add_secret("redis_password", &options.redis_password, "password of that Redis");
  table.add_string("redis_password_file",
                   &options.redis_password_file,
                   "file that holds the password");
  table.add_bool("redis_plaintext",
                 &options.is_redis_plaintext,
                 "allow a Redis on another machine without encryption");
  table.add_string(
      "data",
      &options.data,
      "directory of the private Redis; empty = $XDG_STATE_HOME/sluice or ~/.local/state/sluice");
}

void describe_nodes(ConfigTable& table, BrokerOptions& options) {
  table.group("Nodes");
  table.add_duration("heartbeat_ms",
                     &options.heartbeat_ms,
                     {50, 60'000},
                     "how often a node reports");
  table.add_duration("dead_after_ms",
                     &options.dead_after_ms,
                     {100, 600'000},
                     "silence after which a node is dead and its jobs are queued again");
  table.add_duration("grace_ms",
                     &options.grace_ms,
                     {0, 600'000},
                     "how long running jobs wait for their node after a start of the broker");
}

void describe_limits(ConfigTable& table, BrokerOptions& options) {
  table.group("Limits and retention");
  table.add_bytes("memory_max",
                  &options.memory_max,
                  {1 << 20, 1LL << 40},
                  "memory for jobs; submits get retry_later above it");
  table.add_bytes("logs_max",
                  &options.logs_max,
                  {0, 1LL << 40},
                  "what the logs of all jobs have in Redis; above it new pieces are dropped");
  table.add_integer("queue_max",
                    &options.queue_max,
                    {0, 1'000'000'000},
                    "waiting jobs in one queue; 0 = no bound of its own");
  table.add_integer(
      "ended_max",
      &options.ended_max,
      {1'000, 100'000'000},
      "ids of ended jobs remembered against late duplicates, for 10 minutes after their removal");
  table.add_duration("keep_ms",
                     &options.keep_ms,
                     {0, 3650 * kDayMs},
                     "age to which completed and cancelled jobs are kept");
  table.add_duration("keep_failed_ms",
                     &options.keep_failed_ms,
                     {0, 3650 * kDayMs},
                     "age to which failed jobs are kept");
  table.add_integer("keep_count",
                    &options.keep_count,
                    {0, 100'000'000},
                    "ended jobs kept of each queue and state");
}

void describe_logs(ConfigTable& table, BrokerOptions& options) {
  table.group("Logs");
  table.add_choice("log_level",
                   &options.log_level,
                   {"debug", "info", "warn", "error", "off"},
                   "least level that is written");
  table.add_choice("log_format", &options.log_format, {"logfmt", "json"}, "form of a line");
}

}  // namespace

void describe(ConfigTable& table, BrokerOptions& options) {
  describe_addresses(table, options);
  describe_store(table, options);
  describe_nodes(table, options);
  describe_limits(table, options);
  describe_logs(table, options);
  table.set_epilog(kEpilog);
}

bool is_loopback(std::string_view address) {
  if (address.starts_with("ipc://") || address.starts_with("inproc://")) return true;
  if (!address.starts_with("tcp://")) return false;
  const std::string_view host = address.substr(6, address.rfind(':') - 6);
  return is_loopback_host(host) || host == "lo";
}

namespace {

Result<void> check_redis(const BrokerOptions& options) {
  if (options.redis.empty() || options.redis == "memory:") return {};
  const auto address = parse_redis_address(options.redis);
  if (!address) return fail(address.error().code, "--redis", address.error().detail);
  if (!address->is_local() && !options.is_redis_plaintext)
    return fail(ErrorCode::bad_field, "--redis", plaintext_refusal(*address));
  return {};
}

}  // namespace

Result<void> check(const BrokerOptions& options) {
  const std::pair<const char*, const std::string*> addresses[] = {
      {"--producers", &options.producers},
      {"--workers", &options.workers},
      {"--events", &options.events}};
  for (const auto& [name, address] : addresses) {
    if (!is_address(*address, AddressUse::listen))
      return fail(
          ErrorCode::bad_field,
          name,
          "'" + *address + "' is no address; it looks like tcp://127.0.0.1:7711 or ipc:///path");
    if (!is_loopback(*address) && !options.is_insecure)
      return fail(ErrorCode::bad_field,
                  name,
                  "'" + *address +
                      "' can be reached from other machines, and there are no keys yet: use " +
                      "127.0.0.1 and `ssh -L`, or give --insecure on a network where everybody may "
                      "do everything");
  }
  if (const auto checked = check_redis(options); !checked) return checked;
  if (options.dead_after_ms < 2 * options.heartbeat_ms)
    return fail(ErrorCode::bad_field,
                "--dead-after-ms",
                std::to_string(options.dead_after_ms) + " is less than two heartbeats of " +
                    std::to_string(options.heartbeat_ms) +
                    " ms; nodes would die of one lost message");
  return {};
}

namespace {

CoreConfig core_config(const BrokerOptions& options) {
  CoreConfig config;
  config.heartbeat_ms = options.heartbeat_ms;
  config.dead_after_ms = options.dead_after_ms;
  config.grace_ms = options.grace_ms;
  config.ended_max = static_cast<std::size_t>(options.ended_max);
  config.memory_max_bytes = static_cast<std::uint64_t>(options.memory_max);
  config.queue_max = static_cast<std::uint64_t>(options.queue_max);
  config.version = SLUICE_VERSION;
  config.is_insecure = options.is_insecure;
  return config;
}

ProjectorConfig view_config(const BrokerOptions& options) {
  ProjectorConfig config;
  config.retention.keep_ms = options.keep_ms;
  config.retention.failed_keep_ms = options.keep_failed_ms;
  config.retention.keep_count = static_cast<std::uint64_t>(options.keep_count);
  config.ended_max = static_cast<std::size_t>(options.ended_max);
  return config;
}

}  // namespace

EngineConfig engine_config(const BrokerOptions& options) {
  return {.core = core_config(options),
          .view = view_config(options),
          .owner = {},
          .logs_bytes_max = static_cast<std::uint64_t>(options.logs_max)};
}

log::Options log_options(const BrokerOptions& options) {
  log::Options result;
  (void)log::parse_level(options.log_level, result.level);
  (void)log::parse_format(options.log_format, result.format);
  return result;
}

}  // namespace sluice
