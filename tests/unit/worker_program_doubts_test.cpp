#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/runtime/program_doubts.h"

namespace sluice::worker_program_doubts_test {
namespace {

class ProgramDoubts : public testing::Test {
 protected:
  void SetUp() override {
    std::string made = directory_;
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    directory_ = made;
  }

  void TearDown() override { std::filesystem::remove_all(directory_); }

  // The doubt, or nothing.
  static std::string doubt(const std::string& program, const std::string& cwd = {}) {
    TaskSettings settings("t", {});
    doubt_program(settings, program, cwd);
    if (settings.doubts().empty()) return {};
    EXPECT_EQ(settings.doubts().size(), 1U);
    return settings.doubts()[0].where + ": " + settings.doubts()[0].detail;
  }

  void write(const std::string& name, mode_t mode) const {
    const std::filesystem::path path = directory_ / name;
    std::ofstream(path) << "#!/bin/sh\n";
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
  }

  std::filesystem::path directory_ = testing::TempDir() + "program-doubts-XXXXXX";
};

TEST_F(ProgramDoubts, none_of_a_program_that_is_there) {
  write("run.sh", 0755);
  EXPECT_EQ(doubt("sh"), "");
  EXPECT_EQ(doubt("/bin/sh"), "");
  EXPECT_EQ(doubt("./run.sh", directory_), "");
}

TEST_F(ProgramDoubts, a_program_that_is_not_in_the_path) {
  EXPECT_THAT(doubt("no-such-program"),
              testing::HasSubstr("task.t.program: there is no program no-such-program in the"));
}

TEST_F(ProgramDoubts, a_program_that_cannot_be_run) {
  write("data", 0644);
  EXPECT_THAT(doubt("./no/such"), testing::HasSubstr("No such file or directory"));
  EXPECT_THAT(doubt("./data", directory_), testing::HasSubstr("Permission denied"));
  EXPECT_THAT(doubt("/tmp"), testing::HasSubstr("Is a directory"));
}

// A relative one is sought where its job will run.
TEST_F(ProgramDoubts, a_path_begins_at_its_cwd) {
  write("run.sh", 0755);
  EXPECT_NE(doubt("./run.sh"), "");
  EXPECT_NE(doubt("./run.sh", "/"), "");
}

TEST_F(ProgramDoubts, a_cwd_that_is_no_directory) {
  write("file", 0644);
  EXPECT_THAT(doubt("sh", "/no/such"),
              testing::HasSubstr("task.t.cwd: there is no directory /no/such now"));
  EXPECT_THAT(doubt("sh", directory_ / "file"), testing::HasSubstr("task.t.cwd: "));
}

TEST_F(ProgramDoubts, one_that_a_job_names_is_known_only_then) {
  EXPECT_EQ(doubt("/opt/{name}/run"), "");
}

}  // namespace
}  // namespace sluice::worker_program_doubts_test
