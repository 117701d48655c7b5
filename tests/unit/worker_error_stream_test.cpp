#include <unistd.h>

#include <array>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/error_stream.h"

namespace sluice::worker_error_stream_test {
namespace {

class ErrorStreamTest : public testing::Test {
 protected:
  void say(const std::string& bytes) {
    ASSERT_EQ(::write(far_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  static std::array<int, 2> make_pipe() {
    std::array<int, 2> pipe{-1, -1};
    EXPECT_EQ(::pipe(pipe.data()), 0);
    return pipe;
  }

  const std::array<int, 2> pipe_ = make_pipe();
  UniqueFd far_{pipe_[1]};
  ErrorStream stream_{UniqueFd(pipe_[0])};
};

TEST_F(ErrorStreamTest, gives_what_there_is_and_does_not_wait_for_more) {
  EXPECT_EQ(stream_.read(), "");
  say("one\n");
  say("two");
  EXPECT_EQ(stream_.read(), "one\ntwo");
  EXPECT_EQ(stream_.read(), "");
  EXPECT_EQ(stream_.fd(), pipe_[0]);
}

TEST_F(ErrorStreamTest, gives_all_that_a_pipe_holds_at_once) {
  const std::string full(64 * 1024, 'x');
  say(full);
  EXPECT_EQ(stream_.read(), full);
}

TEST_F(ErrorStreamTest, has_the_last_words_after_its_end) {
  say("last words");
  far_.reset();
  EXPECT_EQ(stream_.read(), "last words");
  EXPECT_EQ(stream_.read(), "");
  EXPECT_EQ(stream_.fd(), -1);
  EXPECT_EQ(stream_.tail(), "last words");
}

TEST_F(ErrorStreamTest, the_tail_is_of_one_job_and_bounded) {
  say("the one before\n");
  (void)stream_.read();
  stream_.begin();
  EXPECT_EQ(stream_.tail(), "");
  say(std::string(2 * kErrorTextBytesMax, 'e') + "end");
  (void)stream_.read();
  EXPECT_LE(stream_.tail().size(), kErrorTextBytesMax);
  EXPECT_TRUE(stream_.tail().ends_with("end"));
}

}  // namespace
}  // namespace sluice::worker_error_stream_test
