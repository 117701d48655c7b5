// What of the choice needs no Redis: the options of one, the memory only, and the waiting for one
// that is away.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "broker/store/private_redis.h"
#include "broker/store_choice.h"
#include "common/exit_codes.h"
#include "common/log.h"

namespace sluice::broker_store_choice_test {
namespace {

// A file of a test's own, with a broker that reads its password from there.
class PasswordFile : public testing::Test {
 protected:
  PasswordFile() {
    std::string path = std::filesystem::temp_directory_path() / "sluice-password-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("no directory");
    directory_ = path;
    options_.redis = "redis://127.0.0.1";
    options_.redis_password = "of the environment";
    options_.redis_password_file = directory_ / "password";
  }

  ~PasswordFile() override { std::filesystem::remove_all(directory_); }

  Result<std::string> password(const std::string& content) {
    std::ofstream(options_.redis_password_file, std::ios::binary) << content;
    return read_password(options_);
  }

  void expect_refused(const char* why) {
    const auto refused = read_password(options_);
    ASSERT_FALSE(refused) << why;
    EXPECT_EQ(refused.error().code, ErrorCode::bad_field);
    EXPECT_EQ(refused.error().where, "--redis-password-file");
    EXPECT_EQ(refused.error().detail, options_.redis_password_file + why);
  }

  std::filesystem::path directory_;
  BrokerOptions options_;
};

TEST_F(PasswordFile, its_first_line_is_the_password_and_goes_before_the_environment) {
  EXPECT_EQ(password("secret\n").value(), "secret");
  EXPECT_EQ(password("secret").value(), "secret");
  EXPECT_EQ(password(" a b \nmore\n").value(), " a b ");
  options_.redis_password_file.clear();
  EXPECT_EQ(read_password(options_).value(), "of the environment");
}

TEST_F(PasswordFile, a_line_has_at_most_4096_bytes) {
  const std::string longest(4096, 'x');
  EXPECT_EQ(password(longest).value(), longest);
  EXPECT_EQ(password(longest + "\nmore").value(), longest);
  (void)password(longest + "x\n");
  expect_refused(": its first line has more than 4096 bytes");
}

TEST_F(PasswordFile, one_that_says_nothing_is_refused_before_any_redis_is_asked) {
  expect_refused(": nothing can be read there");
  (void)password("");
  expect_refused(": nothing can be read there");
  const auto chosen = choose_store(options_, -1);
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().where, "--redis-password-file");
  options_.redis_password_file = directory_;
  expect_refused(": nothing can be read there");
}

// ---------------------------------------------------------------- opening

// Fails with each of `errors` in turn, then opens.
class FailingStore : public Store {
 public:
  Result<Opened> open(std::string owner,
                      std::uint64_t epoch_min,
                      const OpenProgress& progress) override {
    asked_.push_back(std::move(owner));
    EXPECT_GT(epoch_min, 1'600'000'000'000U) << "the wall clock: no epoch is given twice";
    may_go_on_ = progress(1);
    if (errors.empty()) return Opened{};
    const Error error = errors.front();
    errors.erase(errors.begin());
    return tl::unexpected(error);
  }

  void send(StoreRequest) override {}

  void receive(std::vector<StoreReply>&) override {}

  std::vector<Error> errors;
  std::vector<std::string> asked_;
  bool may_go_on_ = false;
};

class FailingChoice : public StoreChoice {
 public:
  FailingStore& store() override { return store_; }

  bool stop(const std::string&) override { return true; }

  void leave() override {}

 private:
  FailingStore store_;
};

class StoreOpening : public testing::Test {
 protected:
  StoreOpening() {
    if (::pipe(signals_.data()) != 0) throw std::runtime_error("no pipe");
    log::set_up({.level = log::Level::off});
  }

  ~StoreOpening() override {
    log::set_up({});
    ::close(signals_[0]);
    ::close(signals_[1]);
  }

  Result<Opened> open() { return open_store(choice_, "b1", signals_[0]); }

  void signal() { ASSERT_EQ(::write(signals_[1], "s", 1), 1); }

  std::array<int, 2> signals_{};
  FailingChoice choice_;
};

TEST_F(StoreOpening, is_for_its_owner_and_reads_on_while_nobody_ends_it) {
  ASSERT_TRUE(open());
  EXPECT_EQ(choice_.store().asked_, std::vector<std::string>{"b1"});
  EXPECT_TRUE(choice_.store().may_go_on_);
}

TEST_F(StoreOpening, an_error_that_time_does_not_heal_is_final) {
  for (const ErrorCode code : {ErrorCode::bad_field, ErrorCode::denied, ErrorCode::malformed}) {
    choice_.store().errors = {{code, "redis", "why"}};
    const auto opened = open();
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, code);
    EXPECT_EQ(opened.error().detail, "why");
  }
  EXPECT_EQ(choice_.store().asked_.size(), 3U);
}

TEST_F(StoreOpening, a_signal_ends_the_reading_and_the_waiting) {
  signal();
  choice_.store().errors = {{ErrorCode::store_unavailable, "redis", "refused"}};
  const auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::store_unavailable);
  EXPECT_EQ(opened.error().where, "redis");
  EXPECT_EQ(opened.error().detail, "told to stop while it was waited for: refused");
  EXPECT_FALSE(choice_.store().may_go_on_);
  EXPECT_EQ(choice_.store().asked_.size(), 1U) << "it is not asked again";
}

TEST_F(StoreOpening, memory_only_opens_at_once_and_says_that_nothing_is_kept) {
  BrokerOptions options;
  options.redis = "memory:";
  auto choice = choose_store(options, signals_[0]);
  ASSERT_TRUE(choice);
  const auto opened = open_store(**choice, "b1", signals_[0]);
  ASSERT_TRUE(opened) << opened.error().detail;
  EXPECT_EQ(opened->durability, Durability::memory);
  EXPECT_TRUE(opened->snapshot.jobs.empty());
  EXPECT_TRUE((*choice)->stop("b1"));
}

TEST(StoreChoice, an_error_ends_the_broker_with_the_status_of_its_kind) {
  const std::vector<std::pair<ErrorCode, int>> cases = {
      {ErrorCode::store_unavailable, kExitUnavailable},
      {ErrorCode::denied, kExitUnavailable},
      {ErrorCode::bad_field, kExitUsage},
      {ErrorCode::conflict, kExitFenced},
      {ErrorCode::malformed, kExitFailed},
      {ErrorCode::internal, kExitFailed},
  };
  for (const auto& [code, status] : cases)
    EXPECT_EQ(exit_code_of({code, {}, {}}), status) << to_string(code);
}

// Two starts from two directories would be two brokers.
TEST(DefaultDataDirectory, is_nowhere_where_the_environment_names_no_absolute_one) {
  const std::string home = std::getenv("HOME") != nullptr ? std::getenv("HOME") : "";
  const std::string state =
      std::getenv("XDG_STATE_HOME") != nullptr ? std::getenv("XDG_STATE_HOME") : "";
  const auto directory = [](const char* home_is, const char* state_is) {
    ::setenv("HOME", home_is, 1);
    ::setenv("XDG_STATE_HOME", state_is, 1);
    return default_data_directory();
  };
  EXPECT_EQ(directory("/h", "/s"), "/s/sluice");
  EXPECT_EQ(directory("/h", "relative"), "/h/.local/state/sluice");
  EXPECT_EQ(directory("relative", ""), "");
  ::unsetenv("HOME");
  ::unsetenv("XDG_STATE_HOME");
  EXPECT_EQ(default_data_directory(), "");
  if (!home.empty()) ::setenv("HOME", home.c_str(), 1);
  if (!state.empty()) ::setenv("XDG_STATE_HOME", state.c_str(), 1);
}

}  // namespace
}  // namespace sluice::broker_store_choice_test
