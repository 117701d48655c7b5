// A Redis that comes back under another address, as a container does that starts again: its name is
// looked up for every new connection.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "broker/store/redis_store.h"
#include "tests/support/redis_server.h"

namespace sluice {
namespace {

using std::chrono::steady_clock;

// A port that is free on both addresses of this story now.
int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t size = sizeof address;
  (void)bind(fd, reinterpret_cast<const sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

std::unique_ptr<test::RedisServer> redis_on(const std::string& address, int port) {
  return std::make_unique<test::RedisServer>(
      std::vector<std::string>{"--port", std::to_string(port), "--bind", address});
}

void turn(RedisStore& store) {
  const auto now = [] {
    const auto since = steady_clock::now().time_since_epoch();
    return Now{std::chrono::duration_cast<std::chrono::milliseconds>(since).count(),
               1'700'000'000'000};
  };
  store.on_ready(false, false, now());
  pollfd one{store.fd(), static_cast<short>(POLLIN | (store.wants_write() ? POLLOUT : 0)), 0};
  if (poll(&one, 1, 20) <= 0) return;
  store.on_ready((one.revents & ~POLLOUT) != 0, (one.revents & POLLOUT) != 0, now());
}

template <typename Reply>
bool until_said(RedisStore& store) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(10);
  while (steady_clock::now() < deadline) {
    turn(store);
    std::vector<StoreReply> replies;
    store.receive(replies);
    for (const StoreReply& reply : replies)
      if (std::holds_alternative<Reply>(reply)) return true;
  }
  return false;
}

TEST(Reconnect, finds_a_redis_that_came_back_under_another_address) {
  const int port = free_port();
  auto redis = redis_on("127.0.0.1", port);
  auto is_moved = std::make_shared<std::atomic<bool>>(false);
  RedisStore store(
      RedisConfig{.address = *parse_redis_address("redis://redis.test:" + std::to_string(port)),
                  .password = {},
                  .is_plaintext_allowed = true,
                  .resolver = [=](const std::string&) {
                    return *is_moved ? "127.0.0.2" : "127.0.0.1";
                  }});
  const auto opened = store.open("me", 5, read_on);
  ASSERT_TRUE(opened) << opened.error().detail;

  redis.reset();
  ASSERT_TRUE(until_said<StoreDisconnected>(store));
  *is_moved = true;
  redis = redis_on("127.0.0.2", port);
  EXPECT_TRUE(until_said<StoreConnected>(store));
}

// However long it was away: a second after it is back, jobs are dealt again (P6).
TEST(Reconnect, looks_four_times_a_second_for_a_redis_that_is_away) {
  ::signal(SIGPIPE, SIG_IGN);  // as in a broker: it may just be asking for the health
  auto redis = std::make_unique<test::RedisServer>();
  RedisStore store(RedisConfig{.address = *parse_redis_address(redis->address()),
                               .password = {},
                               .is_plaintext_allowed = false,
                               .resolver = {}});
  const auto opened = store.open("me", 5, read_on);
  ASSERT_TRUE(opened) << opened.error().detail;
  redis.reset();
  ASSERT_TRUE(until_said<StoreDisconnected>(store));
  std::int64_t now_ms = store.next_deadline_mono_ms();
  for (int attempt = 0; attempt < 20; ++attempt) {
    store.on_ready(false, false, Now{now_ms, 1'700'000'000'000});
    ASSERT_LE(store.next_deadline_mono_ms(), now_ms + 250) << attempt;
    ASSERT_GT(store.next_deadline_mono_ms(), now_ms) << attempt;
    now_ms = store.next_deadline_mono_ms();
  }
}

}  // namespace
}  // namespace sluice
