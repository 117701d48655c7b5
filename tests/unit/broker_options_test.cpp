#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "broker/options.h"

namespace sluice::broker_options_test {
namespace {

const char* no_environment(const char*) {
  return nullptr;
}

// As main() reads them, but for the environment.
Result<BrokerOptions> options_of(const std::vector<const char*>& flags) {
  BrokerOptions options;
  ConfigTable table("sluice-broker", "Accepts jobs.");
  describe(table, options);
  std::vector<const char*> argv = {"sluice-broker"};
  argv.insert(argv.end(), flags.begin(), flags.end());
  const auto action = table.parse(static_cast<int>(argv.size()), argv.data(), no_environment);
  if (!action) return tl::unexpected(action.error());
  return options;
}

BrokerOptions changed(const std::function<void(BrokerOptions&)>& change) {
  BrokerOptions options;
  change(options);
  return options;
}

// The option that check() finds wrong; empty = none.
std::string refused(const std::function<void(BrokerOptions&)>& change) {
  const auto checked = check(changed(change));
  if (checked) return "";
  EXPECT_EQ(checked.error().code, ErrorCode::bad_field);
  return checked.error().where;
}

TEST(BrokerOptions, without_any_a_broker_is_good_on_a_laptop) {
  const auto options = options_of({});
  ASSERT_TRUE(options) << options.error().detail;
  EXPECT_TRUE(check(*options));
  for (const std::string* address : {&options->producers, &options->workers, &options->events})
    EXPECT_TRUE(is_loopback(*address)) << *address;
  const CoreConfig core = engine_config(*options).core;
  EXPECT_EQ(core.heartbeat_ms, kHeartbeatDefaultMs);
  EXPECT_EQ(core.dead_after_ms, kDeadAfterDefaultMs);
  EXPECT_EQ(core.grace_ms, kGraceDefaultMs);
  EXPECT_FALSE(core.version.empty());
  EXPECT_FALSE(core.is_insecure);
}

TEST(BrokerOptions, every_number_is_taken_at_its_bounds_and_refused_beyond_by_its_name) {
  struct Bounds {
    const char* flag;
    std::string least, most, below, above;
  };

  const std::vector<Bounds> all = {
      {"--heartbeat-ms", "50", "60000", "49", "60001"},
      {"--dead-after-ms", "100", "600000", "99", "600001"},
      {"--grace-ms", "0", "600000", "-1", "600001"},
      {"--memory-max", "1MiB", "1024GiB", "1048575", "1099511627777"},
      {"--logs-max", "0", "1024GiB", "-1", "1099511627777"},
      {"--queue-max", "0", "1000000000", "-1", "1000000001"},
      {"--ended-max", "1000", "100000000", "999", "100000001"},
      {"--keep-ms", "0", "3650d", "-1", "315360000001"},
      {"--keep-failed-ms", "0", "3650d", "-1", "315360000001"},
      {"--keep-count", "0", "100000000", "-1", "100000001"},
  };
  for (const auto& [flag, least, most, below, above] : all) {
    for (const std::string& good : {least, most}) {
      const std::string text = flag + ("=" + good);
      EXPECT_TRUE(options_of({text.c_str()})) << text;
    }
    for (const std::string& bad : {below, above}) {
      const std::string text = flag + ("=" + bad);
      const auto options = options_of({text.c_str()});
      ASSERT_FALSE(options) << text;
      EXPECT_EQ(options.error().where, flag) << text;
    }
  }
}

TEST(BrokerOptions, each_reaches_the_part_that_it_is_for) {
  const auto options = options_of({"--heartbeat-ms=101",
                                   "--dead-after-ms=202",
                                   "--grace-ms=303",
                                   "--memory-max=4MiB",
                                   "--logs-max=3MiB",
                                   "--queue-max=5",
                                   "--ended-max=6000",
                                   "--keep-ms=707",
                                   "--keep-failed-ms=808",
                                   "--keep-count=9",
                                   "--insecure"});
  ASSERT_TRUE(options) << options.error().detail;
  const CoreConfig core = engine_config(*options).core;
  EXPECT_EQ(core.heartbeat_ms, 101);
  EXPECT_EQ(core.dead_after_ms, 202);
  EXPECT_EQ(core.grace_ms, 303);
  EXPECT_EQ(core.memory_max_bytes, 4U << 20);
  EXPECT_EQ(core.queue_max, 5U);
  EXPECT_EQ(core.ended_max, 6000U);
  EXPECT_TRUE(core.is_insecure);
  const ProjectorConfig view = engine_config(*options).view;
  EXPECT_EQ(view.retention.keep_ms, 707);
  EXPECT_EQ(view.retention.failed_keep_ms, 808);
  EXPECT_EQ(view.retention.keep_count, 9U);
  EXPECT_EQ(view.ended_max, 6000U);
  EXPECT_EQ(engine_config(*options).logs_bytes_max, 3U << 20);
}

TEST(BrokerOptions, logs_are_as_they_are_asked_for_and_in_no_other_words) {
  EXPECT_EQ(log_options({}).level, log::Level::info);
  EXPECT_EQ(log_options({}).format, log::Format::logfmt);
  const auto options = options_of({"--log-level=error", "--log-format=json"});
  ASSERT_TRUE(options);
  EXPECT_EQ(log_options(*options).level, log::Level::error);
  EXPECT_EQ(log_options(*options).format, log::Format::json);
  for (const char* wrong : {"--log-level=loud", "--log-format=xml"})
    EXPECT_FALSE(options_of({wrong})) << wrong;
}

TEST(BrokerOptions, only_this_machine_can_reach_a_loopback_address) {
  for (const char* here : {"tcp://127.0.0.1:7711",
                           "tcp://127.9.9.9:*",
                           "tcp://localhost:1",
                           "tcp://[::1]:1",
                           "tcp://lo:1",
                           "ipc:///run/sluice",
                           "inproc://x"})
    EXPECT_TRUE(is_loopback(here)) << here;
  for (const char* anywhere : {"tcp://*:1",
                               "tcp://0.0.0.0:1",
                               "tcp://[::]:1",
                               "tcp://eth0:1",
                               "tcp://127.0.0.1.example.com:1",
                               "tcp://10.0.0.1:1",
                               "udp://127.0.0.1:1",
                               "127.0.0.1:1",
                               ""})
    EXPECT_FALSE(is_loopback(anywhere)) << anywhere;
}

TEST(BrokerOptions, each_address_off_the_loopback_needs_insecure_and_each_must_be_one) {
  const std::vector<std::pair<const char*, std::string BrokerOptions::*>> addresses = {
      {"--producers", &BrokerOptions::producers},
      {"--workers", &BrokerOptions::workers},
      {"--events", &BrokerOptions::events}};
  for (const auto& [name, member] : addresses) {
    const auto with = [&, member = member](const char* address, bool is_insecure) {
      return refused([&](BrokerOptions& options) {
        options.*member = address;
        options.is_insecure = is_insecure;
      });
    };
    EXPECT_EQ(with("tcp://0.0.0.0:1", false), name);
    EXPECT_EQ(with("tcp://0.0.0.0:1", true), "");
    EXPECT_EQ(with("ipc:///run/sluice", false), "");
    EXPECT_EQ(with("tcp://0.0.0.0", true), name) << "no address, secure or not";
  }
}

TEST(BrokerOptions, a_redis_elsewhere_needs_a_word_about_plain_text) {
  const auto with = [](const char* redis, bool is_plaintext) {
    return refused([&](BrokerOptions& options) {
      options.redis = redis;
      options.is_redis_plaintext = is_plaintext;
    });
  };
  for (const char* good : {"", "memory:", "unix:///run/redis.sock", "redis://localhost:1/2"})
    EXPECT_EQ(with(good, false), "") << good;
  EXPECT_EQ(with("redis://10.0.0.1", false), "--redis");
  EXPECT_EQ(with("redis://10.0.0.1", true), "");
  EXPECT_EQ(with("memory", true), "--redis");
}

TEST(BrokerOptions, a_node_may_miss_one_heartbeat) {
  const auto with = [](std::int64_t dead_after_ms) {
    return refused([&](BrokerOptions& options) {
      options.heartbeat_ms = 500;
      options.dead_after_ms = dead_after_ms;
    });
  };
  EXPECT_EQ(with(1000), "");
  EXPECT_EQ(with(999), "--dead-after-ms");
}

}  // namespace
}  // namespace sluice::broker_options_test
