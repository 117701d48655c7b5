#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/isolate_wire.h"

namespace sluice::worker_isolate_wire_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Fill = FrameReader::Fill;

class IsolateWire : public testing::Test {
 protected:
  IsolateWire() {
    if (::pipe2(ends_.data(), O_NONBLOCK) != 0) std::abort();
  }

  ~IsolateWire() override {
    ::close(ends_[0]);
    close_source();
  }

  void close_source() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

  void write(std::string_view bytes) {
    ASSERT_EQ(::write(ends_[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  void write_length(std::size_t bytes) {
    const auto length = static_cast<std::uint32_t>(bytes);
    write({reinterpret_cast<const char*>(&length), sizeof length});
  }

  Fill fill() { return reader_.fill(ends_[0]); }

  // Views, so that a message that the next one overwrites is seen.
  std::vector<std::string_view> messages() {
    std::vector<std::string_view> all;
    while (const auto message = reader_.next())
      all.push_back(*message);
    return all;
  }

  std::array<int, 2> ends_{};
  FrameReader reader_;
};

TEST_F(IsolateWire, the_messages_of_one_read_come_in_their_order_and_stay_until_the_next) {
  write(isolate_frame("one") + isolate_frame("") + isolate_frame(std::string_view("t\0o", 3)));
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), ElementsAre("one", "", std::string_view("t\0o", 3)));
  EXPECT_FALSE(reader_.is_broken());
}

TEST_F(IsolateWire, a_message_is_whole_or_not_there) {
  const std::string frames = isolate_frame("first") + isolate_frame("second");
  write(frames.substr(0, 14));  // one, and a byte of the second
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), ElementsAre("first"));
  EXPECT_EQ(fill(), Fill::none) << "nothing at hand is no end";
  write(frames.substr(14));
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), ElementsAre("second"));
}

TEST_F(IsolateWire, one_longer_than_a_read_comes_as_it_was_sent) {
  std::string long_one;
  for (int i = 0; long_one.size() < 200'000; ++i)
    long_one += std::to_string(i);
  const std::string frames = isolate_frame(long_one) + isolate_frame("last");
  std::vector<std::string> got;
  for (std::size_t at = 0; at < frames.size(); at += 20'000) {
    write(std::string_view(frames).substr(at, 20'000));
    while (fill() == Fill::some)
      for (const std::string_view message : messages())
        got.emplace_back(message);
  }
  ASSERT_EQ(got.size(), 2U);
  EXPECT_TRUE(got[0] == long_one);
  EXPECT_EQ(got[1], "last");
}

TEST_F(IsolateWire, the_other_side_s_close_is_the_end_and_half_a_message_is_none) {
  write(isolate_frame("half").substr(0, 6));
  close_source();
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_EQ(fill(), Fill::end);
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_EQ(reader_.fill(-1), Fill::end) << "broken is an end too";
}

TEST_F(IsolateWire, a_length_of_just_the_bound_is_waited_for) {
  write_length(kMessageBytesMax);
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), IsEmpty());
  EXPECT_FALSE(reader_.is_broken());
}

TEST_F(IsolateWire, what_came_before_a_length_that_no_message_has_is_given_and_nothing_after) {
  write(isolate_frame("before"));
  write_length(kMessageBytesMax + 1);
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), ElementsAre("before"));
  EXPECT_TRUE(reader_.is_broken());
  write(isolate_frame("after"));
  ASSERT_EQ(fill(), Fill::some);
  EXPECT_THAT(messages(), IsEmpty());
}

}  // namespace
}  // namespace sluice::worker_isolate_wire_test
