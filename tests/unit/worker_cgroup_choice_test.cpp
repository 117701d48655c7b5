#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/real_cgroups.h"
#include "worker/runtime/cgroup_choice.h"

namespace sluice::worker_cgroup_choice_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A system without any.
const CgroupFacts kNothing{};

TEST(CgroupChoice, rlimits_do_where_there_are_no_groups) {
  const auto choice = take_up_cgroups(CgroupsWanted::automatic, kNothing);
  ASSERT_TRUE(choice);
  EXPECT_FALSE(choice->place);
  EXPECT_THAT(choice->reason, StartsWith("no control groups that count memory and processes"));
}

TEST(CgroupChoice, groups_that_are_required_and_cannot_be_had_are_an_error_that_says_what_to_do) {
  const auto choice = choose_cgroups(CgroupsWanted::required, kNothing);
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().where, "cgroups");
  EXPECT_THAT(choice.error().detail,
              HasSubstr("are mounted here. Give the node a group of its own"));
}

TEST(CgroupChoice, groups_that_are_off_are_not_looked_for) {
  const auto choice = choose_cgroups(CgroupsWanted::off, cgroup_facts());
  ASSERT_TRUE(choice);
  EXPECT_FALSE(choice->place);
}

class RealCgroupChoiceTest : public RealCgroupTest {};

TEST_F(RealCgroupChoiceTest, a_node_of_v2_is_in_a_group_beside_those_of_its_programs) {
  if (!place().is_unified) GTEST_SKIP() << "v1 needs no such thing";
  EXPECT_TRUE(real_cgroups().own.is_made());
  EXPECT_THAT(cgroup_facts().groups, HasSubstr("/sluice-"));
}

TEST_F(RealCgroupChoiceTest, a_node_of_v2_that_is_not_alone_in_its_group_stays_there) {
  if (!place().is_unified) GTEST_SKIP() << "v1 does not mind";
  auto group = Cgroup::make(place());
  ASSERT_TRUE(group);
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const pid_t other = ::fork();
  if (other == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (group->enter() == 0) (void)!::write(pipe[1], "x", 1);
    while (true)
      ::pause();
  }
  ::close(pipe[1]);
  char byte = 0;
  ASSERT_EQ(::read(pipe[0], &byte, 1), 1);
  ::close(pipe[0]);
  const pid_t node = ::fork();
  if (node == 0) {
    if (group->enter() != 0) ::_exit(1);
    const std::string before = cgroup_facts().groups;
    const auto choice = take_up_cgroups(CgroupsWanted::required, cgroup_facts());
    const bool says_why =
        !choice && choice.error().detail.find("other processes than the node are in its group ") !=
                       std::string::npos;
    ::_exit(says_why && cgroup_facts().groups == before ? 0 : 2);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(node, &status, 0), node);
  EXPECT_EQ(status, 0);
  group->remove();
  EXPECT_EQ(::waitpid(other, &status, 0), other);
}

}  // namespace
}  // namespace sluice::worker_cgroup_choice_test
