#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include <gtest/gtest.h>

#include "worker/runtime/packet.h"

namespace sluice::worker_packet_test {
namespace {

using namespace sluice;

class PacketTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    near_ = UniqueFd(ends[0]);
    far_ = UniqueFd(ends[1]);
    null_ = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }

  UniqueFd near_;
  UniqueFd far_;
  UniqueFd null_;
  PacketReader reader_;
};

TEST_F(PacketTest, brings_its_bytes_and_its_descriptors) {
  ASSERT_TRUE(send_packet(near_.get(), std::string("a\0b", 3), {null_.get(), near_.get()}));
  ASSERT_EQ(reader_.receive(far_.get()), Received::packet);
  EXPECT_EQ(reader_.bytes(), std::string("a\0b", 3));
  EXPECT_FALSE(reader_.has_lost_fds());
  const auto fds = reader_.take_fds();

  struct stat sent {};

  struct stat got {};

  ASSERT_EQ(::fstat(null_.get(), &sent), 0);
  ASSERT_EQ(::fstat(fds[0].get(), &got), 0);
  EXPECT_EQ(got.st_rdev, sent.st_rdev);
  EXPECT_TRUE(fds[1].is_open());
  EXPECT_FALSE(fds[2].is_open());
  EXPECT_NE(::fcntl(fds[0].get(), F_GETFD) & FD_CLOEXEC, 0) << "a program would inherit it";
}

TEST_F(PacketTest, the_greatest_arrives_whole_and_is_ended_by_a_nul) {
  const std::string most(kPacketBytesMax, 'x');
  ASSERT_TRUE(send_packet(near_.get(), most, {}));
  ASSERT_EQ(reader_.receive(far_.get()), Received::packet);
  EXPECT_EQ(reader_.bytes(), most);
  EXPECT_EQ(reader_.data()[kPacketBytesMax], '\0');
}

TEST_F(PacketTest, descriptors_that_are_not_taken_are_closed_with_the_next_packet) {
  const int first_free = ::dup(0);
  ::close(first_free);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(send_packet(near_.get(), "x", {null_.get()}));
    ASSERT_EQ(reader_.receive(far_.get()), Received::packet);
  }
  ASSERT_TRUE(send_packet(near_.get(), "x", {}));
  ASSERT_EQ(reader_.receive(far_.get()), Received::packet);
  EXPECT_EQ(::dup(0), first_free);
  ::close(first_free);
}

TEST_F(PacketTest, says_when_there_is_none_and_when_the_other_side_is_gone) {
  EXPECT_EQ(reader_.receive(far_.get()), Received::nothing);
  near_.reset();
  EXPECT_EQ(reader_.receive(far_.get()), Received::end);
  EXPECT_FALSE(send_packet(far_.get(), "x", {}));
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(PacketTest, says_when_descriptors_were_lost_for_want_of_room) {
  ASSERT_TRUE(send_packet(near_.get(), "x", {null_.get(), null_.get()}));
  const int first_free = ::dup(0);
  ::close(first_free);
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit few{static_cast<rlim_t>(first_free + 1), usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const Received received = reader_.receive(far_.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(received, Received::packet);
  EXPECT_TRUE(reader_.has_lost_fds());
  EXPECT_FALSE(reader_.take_fds()[1].is_open());
}

}  // namespace
}  // namespace sluice::worker_packet_test
