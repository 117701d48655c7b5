// On directories that stand in for what the kernel mounts.
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/runtime/cgroup_place.h"

namespace sluice::worker_cgroup_place_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class CgroupPlaceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "sluice-place-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }

  void TearDown() override { fs::remove_all(root_); }

  std::string group(const std::string& path, const std::string& controllers = {}) const {
    fs::create_directories(root_ + path);
    std::ofstream(root_ + path + "/cgroup.procs");
    std::ofstream(root_ + path + "/cgroup.controllers") << controllers << "\n";
    return root_ + path;
  }

  std::string mount(const std::string& root,
                    const std::string& path,
                    const std::string& type,
                    const std::string& options) const {
    return "30 23 0:26 " + root + " " + root_ + path + " rw,nosuid shared:4 - " + type +
           " cgroup " + options + "\n";
  }

  std::string root_;
};

TEST_F(CgroupPlaceTest, the_one_tree_is_taken_where_it_counts_memory_and_processes) {
  const std::string own = group("/user/app", "cpu memory pids");
  const auto place = find_cgroup_place({.groups = "0::/user/app\n",
                                        .mounts = mount("/", "", "cgroup2", "rw,nsdelegate"),
                                        .must_be_delegated = false});
  ASSERT_TRUE(place) << place.error().detail;
  EXPECT_TRUE(place->is_unified);
  EXPECT_EQ(place->memory_path, own);
  EXPECT_EQ(place->processes_path, own);
}

TEST_F(CgroupPlaceTest, else_the_trees_of_memory_and_of_processes) {
  group("/unified/a");
  const std::string memory = group("/memory/a");
  const std::string processes = group("/pids");
  const auto place =
      find_cgroup_place({.groups = "8:pids:/\n4:blkio,memory:/a\n0::/a\n",
                         .mounts = mount("/", "/unified", "cgroup2", "rw") +
                                   mount("/", "/memory", "cgroup", "rw,blkio,memory") +
                                   mount("/", "/pids", "cgroup", "rw,pids"),
                         .must_be_delegated = false});
  ASSERT_TRUE(place) << place.error().detail;
  EXPECT_FALSE(place->is_unified);
  EXPECT_EQ(place->memory_path, memory);
  EXPECT_EQ(place->processes_path, processes);
}

// As in a container that sees the host's names.
TEST_F(CgroupPlaceTest, a_group_is_looked_for_below_the_one_that_is_mounted) {
  const std::string own = group("/inner", "memory pids");
  CgroupFacts facts{.groups = "0::/docker/c1/inner\n",
                    .mounts = mount("/docker/c1", "", "cgroup2", "rw"),
                    .must_be_delegated = false};
  const auto place = find_cgroup_place(facts);
  ASSERT_TRUE(place) << place.error().detail;
  EXPECT_EQ(place->memory_path, own);
  facts.groups = "0::/docker/c2\n";
  EXPECT_FALSE(find_cgroup_place(facts));
}

TEST_F(CgroupPlaceTest, there_is_none_where_nothing_counts_processes) {
  group("/memory");
  const auto place = find_cgroup_place({.groups = "4:memory:/\n",
                                        .mounts = mount("/", "/memory", "cgroup", "rw,memory"),
                                        .must_be_delegated = false});
  ASSERT_FALSE(place);
  EXPECT_EQ(place.error().detail,
            "no control groups that count memory and processes are mounted here");
}

TEST_F(CgroupPlaceTest, a_group_that_is_not_to_be_written_is_none) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const std::string own = group("", "memory pids");
  fs::permissions(own + "/cgroup.procs", fs::perms::owner_read);
  const auto place = find_cgroup_place(
      {.groups = "0::/\n", .mounts = mount("/", "", "cgroup2", "rw"), .must_be_delegated = false});
  ASSERT_FALSE(place);
  EXPECT_EQ(place.error().detail, "the node may not write to " + own);
}

class DelegatedCgroupTest : public CgroupPlaceTest {
 protected:
  void SetUp() override {
    CgroupPlaceTest::SetUp();
    own_ = group("/a", "memory pids");
    facts_ = {.groups = "0::/a\n", .mounts = mount("/", "", "cgroup2", "rw")};
  }

  std::string own_;
  CgroupFacts facts_;
};

TEST_F(DelegatedCgroupTest, roots_node_leaves_a_group_alone_that_was_not_given_to_it) {
  if (::geteuid() != 0) GTEST_SKIP() << "what another user has was given to it";
  const auto place = find_cgroup_place(facts_);
  ASSERT_FALSE(place);
  EXPECT_THAT(place.error().detail,
              HasSubstr("was not given to it (systemd does so with Delegate"));
}

TEST_F(DelegatedCgroupTest, it_takes_one_that_systemd_has_marked) {
  if (::geteuid() != 0 || ::setxattr(own_.c_str(), "trusted.delegate", "1", 1, 0) != 0)
    GTEST_SKIP() << "the mark is root's to make, on a file system that has such";
  EXPECT_TRUE(find_cgroup_place(facts_));
}

TEST_F(DelegatedCgroupTest, it_takes_the_uppermost_one_of_its_namespace_and_no_other) {
  if (::geteuid() != 0) GTEST_SKIP() << "what another user has was given to it";
  facts_.is_in_namespace = true;
  EXPECT_FALSE(find_cgroup_place(facts_));
  group("", "memory pids");
  facts_.groups = "0::/\n";
  EXPECT_TRUE(find_cgroup_place(facts_));
}

}  // namespace
}  // namespace sluice::worker_cgroup_place_test
