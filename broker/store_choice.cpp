#include "broker/store_choice.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "broker/loop.h"
#include "broker/store/memory_store.h"
#include "broker/store/private_redis.h"
#include "broker/store/redis_store.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"

namespace sluice {

namespace {

constexpr int kOpenAgainMs = 500;
constexpr std::int64_t kSayAgainMs = 5'000;
// Reading that takes longer is told of.
constexpr std::int64_t kSayReadingMs = 1'000;

class MemoryChoice : public StoreChoice {
 public:
  MemoryChoice() : redis_(std::make_shared<MemoryRedis>()), store_(redis_) {
    redis_->durability = Durability::memory;
  }

  [[nodiscard]] Store& store() override { return store_; }

  bool stop(const std::string&) override { return true; }

  void leave() override {}

 private:
  std::shared_ptr<MemoryRedis> redis_;
  MemoryStore store_;
};

class RedisChoice : public StoreChoice {
 public:
  explicit RedisChoice(RedisConfig config) : store_(std::move(config)) {}

  [[nodiscard]] Store& store() override { return store_; }

  bool stop(const std::string&) override { return true; }

  void leave() override {}

 private:
  RedisStore store_;
};

// Looks after the server whenever the connection to it is down.
class PrivateStore : public RedisStore {
 public:
  PrivateStore(RedisConfig config, PrivateRedis& redis)
      : RedisStore(std::move(config)), redis_(redis) {}

  Result<Opened> open(std::string owner,
                      std::uint64_t epoch_min,
                      const OpenProgress& progress) override {
    if (const auto kept = redis_.keep_up(); !kept) return tl::unexpected(kept.error());
    return RedisStore::open(std::move(owner), epoch_min, progress);
  }

  void on_ready(bool is_readable, bool is_writable, Now now) override {
    if (!is_connected() && redis_.check())
      log::warn(
          "redis_restarted",
          {{"pid", redis_.pid()}, {"socket", redis_.socket()}, {"reason", redis_.last_end()}});
    RedisStore::on_ready(is_readable, is_writable, now);
  }

 private:
  PrivateRedis& redis_;
};

class PrivateChoice : public StoreChoice {
 public:
  PrivateChoice(std::unique_ptr<PrivateRedis> redis, RedisConfig config)
      : redis_(std::move(redis)), store_(std::move(config), *redis_) {}

  [[nodiscard]] Store& store() override { return store_; }

  void leave() override {
    log::warn("redis_left",
              {{"pid", redis_->pid()}, {"reason", "another broker has taken over and uses it"}});
  }

  bool stop(const std::string& owner) override {
    switch (redis_->stop(owner)) {
      case PrivateRedis::Stopped::ended:
        return true;
      case PrivateRedis::Stopped::left:
        leave();
        return true;
      case PrivateRedis::Stopped::silent:
        break;
    }
    log::error("redis_left",
               {{"pid", redis_->pid()},
                {"reason",
                 "it was told to end and has not yet; wait for it before its files are copied, or "
                 "kill it"}});
    return false;
  }

 private:
  std::unique_ptr<PrivateRedis> redis_;
  PrivateStore store_;
};

Result<std::unique_ptr<StoreChoice>> choose_private(const BrokerOptions& options, int signals) {
  const std::string data = options.data.empty() ? default_data_directory() : options.data;
  if (data.empty())
    return fail(
        ErrorCode::bad_field,
        "--data",
        "neither HOME nor XDG_STATE_HOME names an absolute directory: say where the state is "
        "to stand");
  auto redis = PrivateRedis::start(data, [signals](std::chrono::milliseconds time) {
    return is_signalled(signals, static_cast<int>(time.count()));
  });
  if (!redis) return tl::unexpected(redis.error());
  log::info((*redis)->is_adopted() ? "redis_adopted" : "redis_started",
            {{"pid", (*redis)->pid()}, {"socket", (*redis)->socket()}});
  if ((*redis)->is_silent())
    log::warn("redis_silent",
              {{"pid", (*redis)->pid()},
               {"reason", "it lives and does not answer yet; waited for, or kill it if it hangs"}});
  RedisConfig config;
  config.address.path = (*redis)->socket();
  config.complaint = [&server = **redis](int fd) {
    return server.complaint(fd);
  };
  return std::make_unique<PrivateChoice>(std::move(*redis), std::move(config));
}

}  // namespace

Result<std::string> read_password(const BrokerOptions& options) {
  if (options.redis_password_file.empty()) return options.redis_password;
  constexpr std::size_t kPasswordBytesMax = 4096;
  const auto refuse = [&](const char* why) {
    return fail(ErrorCode::bad_field, "--redis-password-file", options.redis_password_file + why);
  };
  std::ifstream file(options.redis_password_file);
  std::string text(kPasswordBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.empty()) return refuse(": nothing can be read there");
  const std::size_t end = std::min(text.find('\n'), text.size());
  if (end > kPasswordBytesMax) return refuse(": its first line has more than 4096 bytes");
  return text.substr(0, end);
}

Result<std::unique_ptr<StoreChoice>> choose_store(const BrokerOptions& options, int signals) {
  if (options.redis == "memory:") {
    log::warn("memory_only",
              {{"reason", "nothing is kept: every job is gone when this process ends"}});
    return std::make_unique<MemoryChoice>();
  }
  if (options.redis.empty()) return choose_private(options, signals);
  auto address = parse_redis_address(options.redis);
  if (!address) return tl::unexpected(address.error());
  auto password = read_password(options);
  if (!password) return tl::unexpected(password.error());
  return std::make_unique<RedisChoice>(
      RedisConfig{std::move(*address), std::move(*password), options.is_redis_plaintext});
}

Result<Opened> open_store(StoreChoice& choice, const std::string& owner, int signals) {
  std::int64_t say_at_ms = 0;
  std::int64_t say_reading_at_ms = monotonic_ms() + kSayReadingMs;
  const auto say_waiting = [&](const Error& error) {
    if (monotonic_ms() < say_at_ms) return;
    log::warn("waiting_for_redis", {{"where", error.where}, {"reason", error.detail}});
    say_at_ms = monotonic_ms() + kSayAgainMs;
  };
  std::size_t read = 0;
  const auto progress = [&](std::size_t jobs_read) {
    read = std::max(read, jobs_read);
    if (monotonic_ms() >= say_reading_at_ms) {
      say_reading_at_ms = monotonic_ms() + kSayReadingMs;
      if (read > 0)
        log::info("reading_jobs", {{"read", read}});
      else
        say_waiting({ErrorCode::store_unavailable, "redis", "it has not answered yet"});
    }
    return !is_signalled(signals, 0);
  };
  while (true) {
    const auto unix_ms = static_cast<std::uint64_t>(wall_clock_ms());
    auto opened = choice.store().open(owner, unix_ms, progress);
    if (opened) return opened;
    if (opened.error().code != ErrorCode::store_unavailable) return tl::unexpected(opened.error());
    const Error told_to_stop{opened.error().code,
                             opened.error().where,
                             "told to stop while it was waited for: " + opened.error().detail};
    if (is_signalled(signals, 0)) return tl::unexpected(told_to_stop);
    say_waiting(opened.error());
    if (is_signalled(signals, kOpenAgainMs)) return tl::unexpected(told_to_stop);
  }
}

int exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::store_unavailable:
    case ErrorCode::denied:  // wrong password
      return kExitUnavailable;
    case ErrorCode::bad_field:
      return kExitUsage;
    case ErrorCode::conflict:
      return kExitFenced;
    default:
      return kExitFailed;
  }
}

}  // namespace sluice
