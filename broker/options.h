// What can be set about a broker: one struct, one table (flag = environment = TOML key = help).
#pragma once

#include <string>

#include "broker/engine.h"
#include "common/config.h"
#include "common/log.h"
#include "common/result.h"

namespace sluice {

struct BrokerOptions {
  std::string producers = "tcp://127.0.0.1:7711";
  std::string workers = "tcp://127.0.0.1:7712";
  std::string events = "tcp://127.0.0.1:7713";
  bool is_insecure = false;

  std::string redis;  // unix:///path or redis://user@host:port/db; empty = a private one in `data`
  std::string redis_password;
  std::string redis_password_file;
  bool is_redis_plaintext = false;
  std::string data;  // empty = the default under XDG state

  std::int64_t heartbeat_ms = kHeartbeatDefaultMs;
  std::int64_t dead_after_ms = kDeadAfterDefaultMs;
  std::int64_t grace_ms = kGraceDefaultMs;
  std::int64_t memory_max = 512LL << 20;
  std::int64_t logs_max = 1LL << 30;
  std::int64_t ended_max = 1'000'000;
  std::int64_t queue_max = 0;
  std::int64_t keep_ms = 24LL * 3600 * 1000;
  std::int64_t keep_failed_ms = 30LL * 24 * 3600 * 1000;
  std::int64_t keep_count = 10'000;

  std::string log_level = "info";
  std::string log_format = "logfmt";
};

// Adds every option to the table; `options` must outlive it.
void describe(ConfigTable& table, BrokerOptions& options);

// What the table alone cannot check: that every address is one of this machine's own unless
// `insecure` allows others, that a node is not declared dead before its second heartbeat. Errors
// name the option.
[[nodiscard]] Result<void> check(const BrokerOptions& options);

// All but what only the start knows: the owner, and how durable the store is.
[[nodiscard]] EngineConfig engine_config(const BrokerOptions& options);
[[nodiscard]] log::Options log_options(const BrokerOptions& options);

// Whether a tcp:// address listens on the loopback only. ipc:// and inproc:// do.
[[nodiscard]] bool is_loopback(std::string_view address);

}  // namespace sluice
