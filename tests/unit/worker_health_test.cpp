#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <future>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/health.h"

namespace sluice::worker_health_test {
namespace {

// Nobody else's: tests run beside each other.
std::string some_place(const std::string& name) {
  return name + "-" + std::to_string(::getpid());
}

constexpr const char* kLine =
    "node=n@1 broker=tcp://b:1 connected=yes draining=no running=2 concurrency=4 unacknowledged=3";

Health some_health() {
  return {.node = "n@1",
          .broker = "tcp://b:1",
          .is_connected = true,
          .is_draining = false,
          .running = 2,
          .concurrency = 4,
          .unacknowledged = 3};
}

TEST(Health, whoever_asks_hears_the_line) {
  for (const std::string& name : {std::string("n"), std::string(300, 'n')}) {
    HealthSocket socket(some_place(name));
    ASSERT_GE(socket.fd(), 0);
    auto answer =
        std::async(std::launch::async, [&] { return ask_health(some_place(name), 60'000); });
    pollfd asked{socket.fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&asked, 1, 60'000), 1);
    socket.answer(some_health());
    const auto line = answer.get();
    ASSERT_TRUE(line) << line.error().detail;
    EXPECT_EQ(*line, kLine);
    socket.answer(some_health());  // nobody asks
  }
}

TEST(Health, no_node_and_a_silent_one_are_told_apart) {
  const auto none = ask_health(some_place("none"), 1000);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::not_found);
  const HealthSocket socket(some_place("silent"));
  for (int asked = 0; asked < 40; ++asked) {  // more than may wait
    const auto silent = ask_health(some_place("silent"), 1);
    ASSERT_FALSE(silent);
    EXPECT_EQ(silent.error().code, ErrorCode::retry_later) << asked;
  }
}

TEST(Health, a_place_is_one_node_s_and_free_when_it_has_gone) {
  {
    const HealthSocket first(some_place("same"));
    EXPECT_GE(first.fd(), 0);
    const HealthSocket second(some_place("same"));
    EXPECT_EQ(second.fd(), -1);
  }
  const HealthSocket next(some_place("same"));
  EXPECT_GE(next.fd(), 0);
}

TEST(Health, a_process_without_a_free_descriptor_still_answers) {
  HealthSocket socket(some_place("short"));
  const int asker = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int second = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(::connect(asker, reinterpret_cast<sockaddr*>(&address), size), 0);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{static_cast<rlim_t>(second) + 1, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &few);
  std::vector<int> others;  // until there is none left
  for (int fd = ::dup(asker); fd >= 0; fd = ::dup(asker))
    others.push_back(fd);
  socket.answer(some_health());
  pollfd waiting{socket.fd(), POLLIN, 0};
  const int after_first = ::poll(&waiting, 1, 0);
  const int taken = ::dup(asker);  // what it had kept for that is none for others
  ASSERT_EQ(::connect(second, reinterpret_cast<sockaddr*>(&address), size), 0);
  socket.answer(some_health());
  const int after_second = ::poll(&waiting, 1, 0);
  ::setrlimit(RLIMIT_NOFILE, &before);
  for (const int fd : others)
    ::close(fd);
  EXPECT_EQ(after_first, 0) << "somebody still waits";
  EXPECT_EQ(taken, -1);
  EXPECT_EQ(after_second, 0) << "somebody still waits";
  ::close(asker);
  ::close(second);
}

TEST(Health, a_state_directory_is_the_same_place_however_it_is_written) {
  EXPECT_EQ(health_place("n", ""), "n");
  EXPECT_EQ(health_place("n", "/tmp/./x/../y"), health_place("other", "/tmp/y"));
}

}  // namespace
}  // namespace sluice::worker_health_test
