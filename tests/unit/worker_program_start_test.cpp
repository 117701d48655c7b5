#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/program_start.h"

namespace sluice::worker_program_start_test {
namespace {

using namespace sluice;

class ProgramStartTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "what is started shares ThreadSanitizer's memory, too, and spoils it";
#endif
  }

  // What it says on its standard output, to its end.
  std::string run(std::vector<std::string> arguments) {
    int pipe[2];
    EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    const UniqueFd in(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    order_.fds = {in.get(), pipe[1], 2, -1};
    order_.argv.clear();
    for (std::string& text : arguments)
      order_.argv.push_back(text.data());
    order_.argv.push_back(nullptr);
    if (order_.environment.empty()) order_.environment = {nullptr};
    started_ = start_program(order_, {}, -1, stack_);
    ::close(pipe[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::read(pipe[0], buffer, sizeof buffer)) > 0;)
      said.append(buffer, static_cast<std::size_t>(size));
    ::close(pipe[0]);
    if (started_.pid > 0) (void)::waitpid(started_.pid, &status_, 0);
    return said;
  }

  StartStack stack_;
  ProgramOrder order_;
  Started started_;
  int status_ = 0;
};

TEST_F(ProgramStartTest, it_has_its_own_session_its_streams_and_its_directory) {
  order_.cwd = "/usr";
  const std::string said = run({"/bin/sh",
                                "-c",
                                "pwd; read -r _ _ _ _ group session _ </proc/$$/stat; "
                                "[ $group = $$ ] && [ $session = $$ ] && echo own"});
  EXPECT_EQ(said, "/usr\nown\n");
  EXPECT_EQ(started_.error, 0);
}

TEST_F(ProgramStartTest,
       as_many_arguments_as_a_packet_has_room_for_and_a_script_without_a_first_line) {
  std::string name =
      (std::filesystem::temp_directory_path() / "sluice-program-start-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const std::string script = name + "/script";
  std::ofstream(script) << "echo $#\n";
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  std::vector<std::string> arguments(60'000, "x");
  arguments.insert(arguments.begin(), script);
  EXPECT_EQ(run(std::move(arguments)), "60000\n");
  std::filesystem::remove_all(name);
}

TEST_F(ProgramStartTest, what_is_no_program_is_told_and_has_ended) {
  EXPECT_EQ(run({"/usr"}), "");
  EXPECT_EQ(started_.error, EACCES);
  EXPECT_EQ(WEXITSTATUS(status_), 127);
  EXPECT_EQ(run({"no-such-program-anywhere"}), "");
  EXPECT_EQ(started_.error, ENOENT);
}

TEST_F(ProgramStartTest, a_directory_that_is_not_there_and_a_user_that_nobody_is_are_told) {
  order_.cwd = "/no/such/directory";
  EXPECT_EQ(run({"/bin/true"}), "");
  EXPECT_EQ(started_.error, ENOENT);
  order_.cwd = "";
  order_.user = "nobody-of-this-name";
  EXPECT_EQ(run({"/bin/true"}), "");
  EXPECT_EQ(started_.error, EPERM);
  EXPECT_EQ(started_.pid, -1);
}

TEST_F(ProgramStartTest, the_caller_is_what_it_was) {
  const int parent_death_signal = SIGUSR2;
  ASSERT_EQ(::prctl(PR_SET_PDEATHSIG, parent_death_signal), 0);
  order_.cwd = "/usr";
  order_.limits.open_files = 50;
  const auto here = std::filesystem::current_path();
  EXPECT_EQ(run({"/bin/sh", "-c", "ulimit -n"}), "50\n");
  EXPECT_EQ(std::filesystem::current_path(), here);
  int now = 0;
  EXPECT_EQ(::prctl(PR_GET_PDEATHSIG, &now), 0);
  EXPECT_EQ(now, parent_death_signal);
  EXPECT_EQ(::prctl(PR_SET_PDEATHSIG, 0), 0);
}

}  // namespace
}  // namespace sluice::worker_program_start_test
