#include "broker/store_choice.h"

#include <poll.h>

#include "broker/loop.h"
#include "broker/store/memory_store.h"
#include "common/exit_codes.h"
#include "common/log.h"

namespace sluice {

namespace {

constexpr int kOpenAgainMs = 500;
constexpr std::int64_t kSayAgainMs = 5'000;

class MemoryChoice : public StoreChoice {
 public:
  MemoryChoice() : redis_(std::make_shared<MemoryRedis>()), store_(redis_) {
    redis_->durability = Durability::memory;
  }

  [[nodiscard]] Store& store() override { return store_; }

  void stop() override {}

 private:
  std::shared_ptr<MemoryRedis> redis_;
  MemoryStore store_;
};

}  // namespace

Result<std::unique_ptr<StoreChoice>> choose_store(const BrokerOptions& options) {
  if (options.redis == "memory:") {
    log::warn("memory_only",
              {{"reason", "nothing is kept: every job is gone when this process ends"}});
    return std::make_unique<MemoryChoice>();
  }
  return fail(ErrorCode::bad_field, "--redis", "not there yet");
}

Result<OpenedStore> open_store(StoreChoice& choice, std::string owner, int signals) {
  std::int64_t say_at_ms = 0;
  while (true) {
    const auto unix_s = static_cast<std::uint64_t>(system_wall_ms() / 1000);
    auto opened = choice.store().open(owner, unix_s);
    if (opened) return OpenedStore{std::move(*opened), std::move(owner)};
    if (opened.error().code != ErrorCode::store_unavailable) return tl::unexpected(opened.error());
    if (monotonic_ms() >= say_at_ms) {
      log::warn("waiting_for_redis",
                {{"where", opened.error().where}, {"reason", opened.error().detail}});
      say_at_ms = monotonic_ms() + kSayAgainMs;
    }
    pollfd signal = {signals, POLLIN, 0};
    if (::poll(&signal, 1, kOpenAgainMs) > 0) return tl::unexpected(opened.error());
  }
}

int exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::store_unavailable:
      return kExitUnavailable;
    case ErrorCode::bad_field:
      return kExitUsage;
    default:
      return kExitFailed;
  }
}

}  // namespace sluice
