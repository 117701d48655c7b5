// What producer_cli_test.cpp leaves open of it. No broker is asked: the command line comes first.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"

namespace sluice::cli::producer_usage_test {
namespace {

using test::Ended;
using test::sluice;
using testing::HasSubstr;
using testing::Not;

// One sentence, and where to read on.
std::string usage(const std::vector<std::string>& arguments) {
  const Ended ended = sluice(arguments);
  EXPECT_EQ(ended.code, kExitUsage);
  EXPECT_EQ(ended.out, "");
  return ended.err;
}

TEST(CliUsage, without_a_command_all_are_named) {
  const std::string text = usage({});
  EXPECT_THAT(text, HasSubstr("name a command: submit, get, wait, list, cancel"));
  EXPECT_THAT(text, HasSubstr("Try 'sluice --help'."));
  EXPECT_THAT(usage({"--json"}), HasSubstr("name a command: submit"));
}

TEST(CliUsage, a_flag_is_named_without_its_value) {
  EXPECT_EQ(usage({"list", "--limitt=5"}),
            "sluice: --limitt is no flag of this command; did you mean --limit?\n"
            "Try 'sluice list --help'.\n");
  EXPECT_EQ(usage({"list", "--frobnicate=--limit"}),
            "sluice: --frobnicate is no flag of this command\nTry 'sluice list --help'.\n");
}

TEST(CliUsage, the_flags_of_every_command_are_near_too) {
  EXPECT_THAT(usage({"stats", "--brokr", "x"}), HasSubstr("did you mean --broker?"));
  EXPECT_THAT(usage({"stats", "--limit", "5"}), Not(HasSubstr("did you mean --limit?")))
      << "one of another command";
}

TEST(CliUsage, what_is_missing_is_said_with_the_help_of_its_command) {
  for (const char* command : {"get", "wait", "pause", "resume", "purge", "drain"})
    EXPECT_THAT(usage({command}), HasSubstr(std::string("Try 'sluice ") + command + " --help'."));
  EXPECT_THAT(usage({"list", "--limit"}), HasSubstr("--limit"));
}

TEST(CliUsage, what_was_typed_does_not_steer_the_terminal_and_may_be_any_bytes) {
  EXPECT_THAT(usage({"x\x1b[31m"}), HasSubstr("'x\\x1b[31m' is no command"));
  EXPECT_THAT(usage({"get", "x\x1b[31m"}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(usage({"x\xc2\x9b"}), Not(HasSubstr("\xc2\x9b")));
  EXPECT_TRUE(Json::accept(usage({"x\xff", "--json"})));
}

TEST(CliUsage, with_json_wrong_usage_is_json_wherever_the_flag_stands) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--json", "lst"}, {"lst", "--json"}, {"get", "--json"}}) {
    const Json error = Json::parse(usage(arguments));
    EXPECT_EQ(error["error"]["code"], "usage");
    EXPECT_FALSE(error["error"]["message"].get<std::string>().empty());
  }
}

}  // namespace
}  // namespace sluice::cli::producer_usage_test
