#include "broker/store/private_redis.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "broker/store/redis_store.h"

namespace sluice {
namespace {

class PrivateRedisTest : public testing::Test {
 protected:
  PrivateRedisTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-test-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }

  ~PrivateRedisTest() override { std::filesystem::remove_all(directory_); }

  static Result<std::unique_ptr<PrivateRedis>> start(const std::string& directory) {
    return PrivateRedis::start(directory, [](std::chrono::milliseconds time) {
      std::this_thread::sleep_for(time);
      return false;
    });
  }

  std::string directory_;
};

TEST_F(PrivateRedisTest, a_second_broker_is_refused_with_the_pid_of_the_first) {
  auto first = start(directory_);
  ASSERT_TRUE(first.has_value()) << first.error().detail;
  const auto second = start(directory_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
  EXPECT_NE(second.error().detail.find(std::to_string(getpid())), std::string::npos);
  (void)(*first)->stop({});
}

TEST_F(PrivateRedisTest, a_server_left_behind_is_adopted) {
  pid_t pid = 0;
  {
    auto first = start(directory_);
    ASSERT_TRUE(first.has_value()) << first.error().detail;
    EXPECT_FALSE((*first)->is_adopted());
    pid = (*first)->pid();
  }
  auto second = start(directory_);
  ASSERT_TRUE(second.has_value()) << second.error().detail;
  EXPECT_TRUE((*second)->is_adopted());
  EXPECT_EQ((*second)->pid(), pid);
  (void)(*second)->stop({});
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), pid);
}

TEST_F(PrivateRedisTest, a_killed_server_is_started_again_and_a_living_one_is_not) {
  auto redis = start(directory_);
  ASSERT_TRUE(redis.has_value()) << redis.error().detail;
  EXPECT_FALSE((*redis)->check());
  const pid_t before = (*redis)->pid();
  ::kill(before, SIGKILL);
  siginfo_t ended{};
  waitid(P_PID, static_cast<id_t>(before), &ended, WEXITED | WNOWAIT);
  EXPECT_TRUE((*redis)->check());
  EXPECT_NE((*redis)->pid(), before);
  (void)(*redis)->stop({});
}

TEST_F(PrivateRedisTest, a_directory_with_a_long_name_gets_a_socket_elsewhere) {
  const std::string deep = directory_ + "/" + std::string(120, 'd');
  auto redis = start(deep);
  ASSERT_TRUE(redis.has_value()) << redis.error().detail;
  EXPECT_LT((*redis)->socket().size(), 108u);
  (void)(*redis)->stop({});
  std::filesystem::remove_all(std::filesystem::path((*redis)->socket()).parent_path());
}

}  // namespace
}  // namespace sluice
