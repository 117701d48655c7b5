#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/program_arguments.h"

namespace sluice::worker_program_arguments_test {
namespace {

using namespace sluice;

using Texts = std::vector<std::string>;

RunJob job_with(std::string payload) {
  RunJob job;
  job.id = JobId("a");
  job.content_type = "application/json";
  job.payload = std::move(payload);
  return job;
}

TEST(ProgramArguments, each_field_stays_within_its_argument) {
  const RunJob job = job_with(R"({"file":"a b; rm *","n":-7,"big":1.5,"yes":true,"x_1":""})");
  const auto filled =
      fill_arguments({"tool", "--in={file}", "{n}{big}", "{yes}", "{x_1}", "{id}"}, job);
  ASSERT_TRUE(filled);
  EXPECT_EQ(*filled, (Texts{"tool", "--in=a b; rm *", "-71.5", "true", "", "a"}));
}

TEST(ProgramArguments, what_is_no_placeholder_stays) {
  const RunJob job = job_with("no JSON");
  const Texts program{"sh", "-c", "echo ${HOME} {} {a b} { {", "{payload}"};
  const auto filled = fill_arguments(program, job);
  ASSERT_TRUE(filled);
  EXPECT_EQ(*filled, (Texts{"sh", "-c", "echo ${HOME} {} {a b} { {", "no JSON"}));
}

TEST(ProgramArguments, a_placeholder_without_a_plain_value_is_named) {
  for (const auto& [payload, argument, where] : {std::tuple{R"({"a":1})", "{b}", "b"},
                                                 {R"({"a":[1]})", "{a}", "a"},
                                                 {R"([1])", "{a}", "a"},
                                                 {"no JSON", "{a}", "a"},
                                                 {R"({"a":"x\u0000y"})", "{a}", "a"}}) {
    const auto filled = fill_arguments({"tool", argument}, job_with(payload));
    ASSERT_FALSE(filled) << payload;
    EXPECT_EQ(filled.error().where, where) << payload;
  }
}

}  // namespace
}  // namespace sluice::worker_program_arguments_test
