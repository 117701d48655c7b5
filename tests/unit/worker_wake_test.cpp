#include <poll.h>

#include <thread>

#include <gtest/gtest.h>

#include "worker/runtime/wake.h"

namespace sluice::worker_wake_test {
namespace {

bool is_readable(const WakeFd& wake, int wait_ms = 0) {
  pollfd item{wake.fd(), POLLIN, 0};
  return ::poll(&item, 1, wait_ms) == 1;
}

TEST(Wake, is_readable_from_the_first_set_until_one_clear) {
  WakeFd wake;
  EXPECT_FALSE(is_readable(wake));
  for (int i = 0; i < 1000; ++i)
    wake.set();
  EXPECT_TRUE(is_readable(wake));
  EXPECT_TRUE(is_readable(wake)) << "looking does not clear it";
  wake.clear();
  EXPECT_FALSE(is_readable(wake));
  wake.set();
  EXPECT_TRUE(is_readable(wake));
}

TEST(Wake, to_clear_what_nobody_set_does_not_hold_up_the_loop) {
  WakeFd wake;
  wake.clear();
  wake.clear();
  EXPECT_FALSE(is_readable(wake));
}

TEST(Wake, another_thread_ends_the_wait_and_only_that_of_its_own) {
  WakeFd wake;
  WakeFd other;
  std::thread thread([&] { wake.set(); });
  EXPECT_TRUE(is_readable(wake, 20'000));
  EXPECT_FALSE(is_readable(other));
  thread.join();
}

}  // namespace
}  // namespace sluice::worker_wake_test
