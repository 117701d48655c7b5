#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/tasks/secrets.h"

namespace sluice::worker_secrets_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A folder of secrets; gone with the test, as what it put into the environment.
class Secrets : public testing::Test {
 protected:
  Secrets() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-secrets-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    store_ = SecretStore(folder_);
  }

  ~Secrets() override {
    std::filesystem::remove_all(folder_);
    for (const std::string& name : set_)
      ::unsetenv(name.c_str());
  }

  void put(const std::string& name, const std::string& value, mode_t mode = 0600) {
    std::ofstream(folder_ + "/" + name) << value;
    ASSERT_EQ(::chmod((folder_ + "/" + name).c_str(), mode), 0);
  }

  void set(const std::string& name, const std::string& value) {
    set_.push_back("SLUICE_SECRET_" + name);
    ::setenv(set_.back().c_str(), value.c_str(), 1);
  }

  // The value, or the code of the refusal.
  [[nodiscard]] std::string find(std::string_view name) const {
    const auto value = store_.find(name);
    return value ? *value : "! " + std::string(to_string(value.error().code));
  }

  std::string folder_;
  SecretStore store_;
  std::vector<std::string> set_;
};

TEST_F(Secrets, the_environment_goes_before_the_file) {
  put("api_key", "of the file");
  EXPECT_EQ(find("api_key"), "of the file");
  set("API_KEY", "of the environment");
  EXPECT_EQ(find("api_key"), "of the environment");
  EXPECT_EQ(SecretStore().find("api_key").value(), "of the environment");
}

TEST_F(Secrets, a_name_is_checked_before_it_can_be_a_path) {
  put("A", "a");
  for (const std::string& name : {std::string(),
                                  std::string("./A"),
                                  std::string("../A"),
                                  std::string("A\0", 2),
                                  std::string("A B"),
                                  std::string(65, 'A')})
    EXPECT_EQ(find(name), "! bad_field") << name;
  EXPECT_EQ(find(std::string(64, 'A')), "! not_found");
  EXPECT_EQ(find("B"), "! not_found");
  EXPECT_EQ(SecretStore().find("A").error().code, ErrorCode::not_found) << "no folder, no file";
}

TEST_F(Secrets, one_newline_at_the_end_is_not_part_of_a_value) {
  put("ONE", "value\n");
  put("TWO", "value\n\n");
  put("EMPTY", "");
  EXPECT_EQ(find("ONE"), "value");
  EXPECT_EQ(find("TWO"), "value\n");
  EXPECT_EQ(find("EMPTY"), "");
}

TEST_F(Secrets, a_file_is_regular_nobody_else_s_and_has_at_most_4_kib) {
  put("FITS", std::string(4096, 's'));
  put("LARGE", std::string(4097, 's'));
  put("GROUP", "s", 0640);
  put("OTHERS", "s", 0604);
  ASSERT_EQ(::mkfifo((folder_ + "/PIPE").c_str(), 0600), 0);
  ASSERT_EQ(::mkdir((folder_ + "/FOLDER").c_str(), 0700), 0);
  EXPECT_EQ(find("FITS"), std::string(4096, 's'));
  for (const char* name : {"LARGE", "GROUP", "OTHERS", "PIPE", "FOLDER"})
    EXPECT_EQ(find(name), "! denied") << name;
}

TEST_F(Secrets, are_filled_in_at_the_start_and_after_a_space_only) {
  set("SLUICE_A", "one");
  set("SLUICE_B", "two");
  std::vector<UsedSecret> used;
  EXPECT_EQ(store_.fill_in("secret:SLUICE_A, Bearer secret:SLUICE_B.x =secret:SLUICE_A", used),
            "one, Bearer two.x =secret:SLUICE_A");
  ASSERT_EQ(used.size(), 2U);
  EXPECT_EQ(used[0].name + "=" + used[0].value, "SLUICE_A=one");
  EXPECT_EQ(used[1].name + "=" + used[1].value, "SLUICE_B=two");
  EXPECT_THAT(secret_names("secret:SLUICE_A, Bearer secret:SLUICE_B.x =secret:C"),
              ElementsAre("SLUICE_A", "SLUICE_B"));
  EXPECT_THAT(secret_names("no secret: here, nosecret:A"), ElementsAre(""));
  EXPECT_THAT(secret_names("Secret:A"), IsEmpty());
}

TEST_F(Secrets, a_value_that_looks_like_a_reference_is_a_value) {
  set("SLUICE_A", "secret:SLUICE_B");
  set("SLUICE_B", "two");
  std::vector<UsedSecret> used;
  EXPECT_EQ(store_.fill_in("secret:SLUICE_A", used), "secret:SLUICE_B");
}

TEST_F(Secrets, a_text_with_one_that_cannot_be_had_is_refused_by_its_name_and_without_values) {
  set("SLUICE_A", "hunter-two");
  put("OPEN", "hunter-three", 0644);
  std::vector<UsedSecret> used;
  for (const auto& [text, code, where] :
       {std::tuple{"secret:SLUICE_A secret:NONE", ErrorCode::not_found, "NONE"},
        {"secret:SLUICE_A secret:OPEN", ErrorCode::denied, "OPEN"},
        {"secret:SLUICE_A secret:", ErrorCode::bad_field, ""}}) {
    const auto filled = store_.fill_in(text, used);
    ASSERT_FALSE(filled) << text;
    EXPECT_EQ(filled.error().code, code) << text;
    EXPECT_EQ(filled.error().where, where) << text;
    EXPECT_THAT(filled.error().detail, Not(HasSubstr("hunter"))) << text;
  }
}

TEST_F(Secrets, every_occurrence_of_a_used_value_is_taken_out) {
  const auto redacted = [](std::string text, const std::vector<UsedSecret>& used) {
    redact(text, used);
    return text;
  };
  EXPECT_EQ(redacted("abc, abcabc and ab", {{"K", "abc"}}),
            "[secret:K], [secret:K][secret:K] and ab");
  EXPECT_EQ(redacted("one two", {{"A", "one"}, {"B", "two"}}), "[secret:A] [secret:B]");
  EXPECT_EQ(redacted("abcdef abc", {{"A", "abc"}, {"B", "abcdef"}}), "[secret:B] [secret:A]")
      << "nothing is left of the one that begins like another";
  EXPECT_EQ(redacted("as it was", {{"EMPTY", ""}}), "as it was");
  EXPECT_EQ(redacted("secret", {{"K", "secret"}}), "[secret:K]") << "not in what it put there";
}

// Each occurrence must not move all that is behind it: that would take minutes.
TEST_F(Secrets, a_text_of_nothing_but_a_value_is_taken_out_in_one_pass) {
  constexpr std::size_t kTimes = 200'000;
  std::string text;
  std::string shown;
  for (std::size_t i = 0; i < kTimes; ++i) {
    text += "hunter-two";
    shown += "[secret:K]";
  }
  text += text;
  shown += shown;
  redact(text, {{"K", "hunter-two"}, {"NONE", "hunter-one"}});
  EXPECT_TRUE(text == shown);
}

}  // namespace
}  // namespace sluice::worker_secrets_test
