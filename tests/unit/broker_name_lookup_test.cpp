#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "broker/store/name_lookup.h"

namespace sluice::broker_name_lookup_test {
namespace {

using namespace std::chrono_literals;

// Waits until another thread has done its part; the limit only ends a test that hangs.
bool until(const std::function<bool()>& is_true) {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!is_true())
    if (std::chrono::steady_clock::now() > deadline) return false;
  return true;
}

TEST(NameLookup, a_name_that_is_not_known_now_keeps_its_last_address) {
  std::string known = "10.0.0.1";
  NameLookup lookup("redis", [&](const std::string&) { return known; });
  EXPECT_EQ(lookup.address(), "redis");
  lookup.look_up();
  EXPECT_EQ(lookup.address(), "10.0.0.1");
  known.clear();
  lookup.look_up();
  EXPECT_EQ(lookup.address(), "10.0.0.1");
}

TEST(NameLookup, a_slow_resolver_holds_up_nobody_and_is_asked_once) {
  std::promise<std::string> answer;
  std::atomic<int> times_asked = 0;
  {
    NameLookup lookup("redis", [&](const std::string&) {
      ++times_asked;
      return answer.get_future().get();
    });
    lookup.begin();
    lookup.begin();
    EXPECT_EQ(lookup.address(), "redis");
    answer.set_value("10.0.0.2");
    EXPECT_TRUE(until([&] { return lookup.address() == "10.0.0.2"; }));
  }
  EXPECT_EQ(times_asked, 1);
}

TEST(NameLookup, its_thread_may_outlive_it) {
  std::promise<std::string> answer;
  std::promise<void> asked;
  const auto left = std::make_shared<int>(0);
  {
    NameLookup lookup("redis", [&, left](const std::string&) {
      asked.set_value();
      return answer.get_future().get();
    });
    lookup.begin();
    asked.get_future().wait();
  }
  EXPECT_GT(left.use_count(), 1);
  answer.set_value("10.0.0.2");
  EXPECT_TRUE(until([&] { return left.use_count() == 1; }));
}

}  // namespace
}  // namespace sluice::broker_name_lookup_test
