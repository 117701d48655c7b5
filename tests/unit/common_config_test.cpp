#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config.h"
#include "common/exit_codes.h"

namespace sluice::common_config_test {
namespace {

using sluice::ConfigTable;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::map<std::string, std::string>& variables() {
  static std::map<std::string, std::string> held;
  return held;
}

const char* look_up(const char* name) {
  const auto found = variables().find(name);
  return found == variables().end() ? nullptr : found->second.c_str();
}

class Config : public testing::Test {
 protected:
  Config() {
    variables().clear();
    std::string pattern =
        (std::filesystem::temp_directory_path() / "sluice-config-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    table_.add_duration("heartbeat_ms", &heartbeat_ms_, {100, 60'000}, "signs of life");
    table_.add_bytes("memory_max", &memory_max_, {1 << 20, 1LL << 40}, "memory for jobs");
    table_.add_integer("slots", &slots_, {1, 10'000}, "jobs at once");
    table_.add_bool("insecure", &insecure_, "bind anywhere");
    table_.add_choice("log_level", &level_, {"debug", "info"}, "how much is logged");
    table_.add_list("queues", &queues_, "queues served");
    table_.add_texts("task", &tasks_, "programs");
    table_.set_environment("task", "");
    table_.add_string("broker", &broker_, "workers' port");
    table_.set_environment("broker", "SLUICE_WORKER_BROKER");
    table_.add_string("redis", &redis_, "address");
    table_.add_secret("redis_password", &password_, "password of Redis");
  }

  ~Config() override { std::filesystem::remove_all(folder_); }

  sluice::Result<sluice::ConfigAction> parse(std::vector<std::string> arguments) {
    std::vector<const char*> argv = {"sluice-test"};
    for (const std::string& argument : arguments)
      argv.push_back(argument.c_str());
    return table_.parse(static_cast<int>(argv.size()), argv.data(), look_up);
  }

  std::string write(const std::string& text) {
    const std::string path = folder_ + "/s.toml";
    std::ofstream(path) << text;
    return path;
  }

  std::string folder_;
  std::int64_t heartbeat_ms_ = 3000;
  std::int64_t memory_max_ = 512 << 20;
  std::uint32_t slots_ = 4;
  bool insecure_ = false;
  std::string level_ = "info";
  std::vector<std::string> tasks_;
  std::string broker_;
  std::vector<std::string> queues_ = {"default"};
  std::string redis_;
  std::string password_;
  ConfigTable table_{"sluice-test", "Tests."};
};

TEST_F(Config, defaults_hold_when_nothing_is_said) {
  ASSERT_TRUE(parse({}));
  EXPECT_EQ(heartbeat_ms_, 3000);
  EXPECT_THAT(table_.effective(), Contains("heartbeat_ms=3s (default)"));
}

TEST_F(Config, what_two_options_must_agree_on_is_checked_before_anything_is_called_valid) {
  table_.check_with([this]() -> sluice::Result<void> {
    if (slots_ > 100 && !insecure_)
      return sluice::fail(sluice::ErrorCode::bad_field, "--slots", "too many");
    return {};
  });
  EXPECT_TRUE(parse({"--slots", "100"}));
  EXPECT_TRUE(parse({"--slots", "101", "--insecure"}));
  const auto refused = parse({"--slots", "101", "--insecure=false", "--check-config"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().where, "--slots");
}

TEST_F(Config, the_flag_wins_over_environment_over_file) {
  const std::string path = write("heartbeat_ms = 500\nslots = 7\nlog_level = \"debug\"\n");
  variables() = {{"SLUICE_HEARTBEAT_MS", "1s"}, {"SLUICE_SLOTS", "8"}};
  ASSERT_TRUE(parse({"--config", path, "--heartbeat-ms", "2s"}));
  EXPECT_EQ(heartbeat_ms_, 2000);
  EXPECT_EQ(slots_, 8u);
  EXPECT_EQ(level_, "debug");
  EXPECT_THAT(table_.effective(), Contains("heartbeat_ms=2s (flag)"));
  EXPECT_THAT(table_.effective(), Contains("slots=8 (environment)"));
  EXPECT_THAT(table_.effective(), Contains("log_level=debug (file)"));
}

TEST_F(Config, durations_and_sizes_take_units) {
  ASSERT_TRUE(parse({"--heartbeat-ms=300ms", "--memory-max", "2GiB"}));
  EXPECT_EQ(heartbeat_ms_, 300);
  EXPECT_EQ(memory_max_, 2LL << 30);
}

TEST_F(Config, a_bad_flag_names_the_flag_the_value_and_the_range_and_changes_nothing) {
  const auto result = parse({"--slots", "9", "--heartbeat-ms", "2h"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().where, "--heartbeat-ms");
  EXPECT_THAT(result.error().detail, HasSubstr("'2h'"));
  EXPECT_THAT(result.error().detail, HasSubstr("100ms to 1m"));
  EXPECT_EQ(slots_, 4u);
}

TEST_F(Config, a_bad_environment_value_names_the_variable) {
  variables() = {{"SLUICE_SLOTS", "many"}};
  const auto result = parse({});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().where, "SLUICE_SLOTS");
  EXPECT_THAT(result.error().detail, HasSubstr("1 to 10000"));
}

TEST_F(Config, a_bad_file_value_names_file_line_and_key) {
  const std::string path = write("# one\nslots = 10001\n");
  const auto result = parse({"--config", path});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().where, path + ":2 slots");
}

TEST_F(Config, a_bad_file_value_is_refused_even_when_a_flag_hides_it) {
  EXPECT_FALSE(parse({"--config", write("slots = \"x\"\n"), "--slots", "3"}));
}

TEST_F(Config, an_unknown_key_is_refused_with_the_nearest_name) {
  const auto result = parse({"--config", write("hartbeat_ms = 3\n")});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().detail, HasSubstr("did you mean heartbeat_ms?"));
}

TEST_F(Config, an_unknown_flag_is_refused_with_the_nearest_name) {
  const auto result = parse({"--slot", "3"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().where, "--slot");
  EXPECT_THAT(result.error().detail, HasSubstr("--slots"));
}

TEST_F(Config, a_broken_file_names_its_line) {
  const std::string path = write("slots = 3\nslots 4\n");
  const auto result = parse({"--config", path});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().where, HasSubstr("s.toml:2"));
}

TEST_F(Config, a_missing_file_is_named) {
  variables() = {{"SLUICE_CONFIG", folder_ + "/none.toml"}};
  const auto result = parse({});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, sluice::ErrorCode::not_found);
  EXPECT_EQ(result.error().where, folder_ + "/none.toml");
}

TEST_F(Config, a_higher_source_replaces_a_whole_list) {
  const std::string path = write("queues = [\"a\", \"b\"]\n");
  ASSERT_TRUE(parse({"--config", path}));
  EXPECT_THAT(queues_, ElementsAre("a", "b"));
  ASSERT_TRUE(parse({"--config", path, "--queues", "c,d", "--queues", "e"}));
  EXPECT_THAT(queues_, ElementsAre("c", "d", "e"));
}

TEST_F(Config, a_bool_flag_alone_is_true_and_can_be_taken_back) {
  ASSERT_TRUE(parse({"--insecure"}));
  EXPECT_TRUE(insecure_);
  variables() = {{"SLUICE_INSECURE", "yes"}};
  ASSERT_TRUE(parse({"--insecure=false"}));
  EXPECT_FALSE(insecure_);
  EXPECT_FALSE(parse({"--insecure=maybe"}));
}

TEST_F(Config, secrets_are_never_shown_and_have_no_flag) {
  variables() = {{"SLUICE_REDIS_PASSWORD", "hunter2"}, {"SLUICE_REDIS", "redis://u:hunter2@h:1/0"}};
  ASSERT_TRUE(parse({}));
  EXPECT_EQ(password_, "hunter2");
  EXPECT_THAT(table_.effective(), Not(Contains(HasSubstr("hunter2"))));
  EXPECT_THAT(table_.effective(), Contains("redis_password=(set) (environment)"));
  EXPECT_THAT(table_.effective(), Contains("redis=redis://u:***@h:1/0 (environment)"));
  const auto refused = parse({"--redis-password", "x"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().where, "--redis-password");
  EXPECT_THAT(refused.error().detail, HasSubstr("set SLUICE_REDIS_PASSWORD"));
}

TEST_F(Config, check_config_answers_and_leaves) {
  testing::internal::CaptureStdout();
  const auto action = parse({"--check-config"});
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("the configuration is valid"));
  ASSERT_TRUE(action);
  EXPECT_TRUE(action->is_final);
  EXPECT_EQ(action->exit_code, 0);
}

TEST_F(Config, help_teaches_and_leaves) {
  testing::internal::CaptureStdout();
  const auto action = parse({"--help"});
  const std::string text = testing::internal::GetCapturedStdout();
  ASSERT_TRUE(action);
  EXPECT_TRUE(action->is_final);
  EXPECT_THAT(text, HasSubstr("--heartbeat-ms"));
  EXPECT_THAT(text, HasSubstr("100ms to 1m"));
  EXPECT_THAT(text, HasSubstr("SLUICE_REDIS_PASSWORD"));
  EXPECT_THAT(text, HasSubstr("Exit status"));
}

TEST_F(Config, a_subtree_is_handed_over_and_not_checked) {
  table_.allow_subtree("task", "what this node runs");
  const auto action =
      parse({"--check-config", "--config", write("[task.sha]\nrun = \"exec\"\nargv = [\"a\"]\n")});
  ASSERT_TRUE(action);
  EXPECT_TRUE(action->is_check);
  EXPECT_FALSE(action->is_final);
  EXPECT_THAT(table_.subtree("task"), HasSubstr("[task.sha]"));
  EXPECT_THAT(table_.subtree("task"), HasSubstr("run = "));
  EXPECT_FALSE(parse({"--config", write("task = 3\n")}));
}

TEST_F(Config, explain_gives_the_exit_status_of_usage) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(table_.explain({sluice::ErrorCode::bad_field, "--slots", "is wrong"}),
            sluice::kExitUsage);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("sluice-test: --slots: is wrong"));
}

TEST_F(Config, a_wrong_value_cannot_steer_the_terminal_that_shows_it) {
  testing::internal::CaptureStderr();
  (void)table_.explain({sluice::ErrorCode::bad_field, "--b\x1b[2J", "is \"\xc2\x9b\" \xff"});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("sluice-test: --b\\x1b[2J: is \"\\xc2\\x9b\" \\xff\n"));
}

TEST_F(Config, a_comma_is_a_part_of_a_text_that_is_not_a_list_of_words) {
  ASSERT_TRUE(parse({"--task", "cut=cut -d, -f1", "--task", "b=cat"}));
  EXPECT_THAT(tasks_, ElementsAre("cut=cut -d, -f1", "b=cat"));
}

TEST_F(Config, an_entry_may_have_another_variable_or_none) {
  variables() = {{"SLUICE_TASK", "x=y"}, {"SLUICE_BROKER", "one"}, {"SLUICE_WORKER_BROKER", "two"}};
  ASSERT_TRUE(parse({}));
  EXPECT_TRUE(tasks_.empty());
  EXPECT_EQ(broker_, "two");
}

}  // namespace
}  // namespace sluice::common_config_test
