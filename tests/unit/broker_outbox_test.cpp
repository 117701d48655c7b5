#include <gtest/gtest.h>

#include "broker/outbox.h"

namespace sluice::broker_outbox_test {
namespace {

Frame frame(std::string bytes) {
  return {Channel::producers, Peer{"p", false}, std::move(bytes)};
}

std::vector<std::string> texts(const std::vector<Frame>& frames) {
  std::vector<std::string> texts;
  for (const Frame& each : frames)
    texts.push_back(each.bytes);
  return texts;
}

std::vector<std::string> released(Outbox& outbox, std::uint64_t confirmed) {
  std::vector<Frame> frames;
  outbox.release(confirmed, frames);
  return texts(frames);
}

// As of a store that is down.
std::vector<std::string> tellings(Outbox& outbox, std::uint64_t confirmed) {
  std::vector<Frame> frames;
  outbox.release_tellings(
      confirmed,
      [](const Req& req) { return "no " + req; },
      frames);
  return texts(frames);
}

using Texts = std::vector<std::string>;

TEST(Outbox, a_frame_goes_with_its_batch_and_not_before) {
  Outbox outbox;
  outbox.hold(frame("of 5"), 5);
  EXPECT_EQ(released(outbox, 4), Texts{});
  EXPECT_EQ(released(outbox, 5), Texts{"of 5"});
  EXPECT_EQ(released(outbox, 6), Texts{}) << "once";
}

TEST(Outbox, what_needs_no_batch_goes_at_once_but_never_past_an_earlier_one) {
  Outbox outbox;
  outbox.hold(frame("first"), 0);
  EXPECT_EQ(released(outbox, 0), Texts{"first"});
  outbox.hold(frame("of 5"), 5);
  outbox.hold(frame("pong"), 0);
  outbox.hold(frame("of 3"), 3);
  outbox.hold(frame("of 6"), 6);
  EXPECT_EQ(released(outbox, 4), Texts{});
  EXPECT_EQ(released(outbox, 5), (Texts{"of 5", "pong", "of 3"}));
  EXPECT_EQ(released(outbox, 6), Texts{"of 6"});
}

TEST(Outbox, frames_keep_their_channel_and_peer_and_come_behind_what_is_there) {
  Outbox outbox;
  outbox.hold({Channel::workers, Peer{"n", true}, "run"}, 1);
  std::vector<Frame> frames = {frame("before")};
  outbox.release(1, frames);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0].bytes, "before");
  EXPECT_EQ(frames[1].channel, Channel::workers);
  EXPECT_EQ(frames[1].peer, (Peer{"n", true}));
}

TEST(Outbox, counts_what_it_holds) {
  Outbox outbox;
  outbox.hold(frame("12345"), 1);
  outbox.hold(frame("123"), 2, {"r", 9});
  outbox.hold(frame("12"), 3);
  EXPECT_EQ(outbox.held_count(), 3U);
  EXPECT_EQ(outbox.held_bytes(), 10U);
  (void)tellings(outbox, 0);
  EXPECT_EQ(outbox.held_count(), 2U);
  EXPECT_EQ(outbox.held_bytes(), 7U) << "of the frame, whatever was said in its place";
  (void)released(outbox, 3);
  EXPECT_EQ(outbox.held_count(), 0U);
  EXPECT_EQ(outbox.held_bytes(), 0U);
}

TEST(Outbox, while_the_store_is_down_only_what_tells_goes_and_of_what_is_confirmed_only) {
  Outbox outbox;
  outbox.hold(frame("change"), 8);
  outbox.hold(frame("old news"), 8, {"a", 7});
  outbox.hold(frame("newer"), 8, {"b", 8});
  outbox.hold(frame("not written yet"), 8, {"c", UINT64_MAX});
  outbox.hold(frame("other change"), 9);
  EXPECT_EQ(tellings(outbox, 7), (Texts{"old news", "no b", "no c"}));
  EXPECT_EQ(tellings(outbox, 7), Texts{}) << "each request has one answer";
  EXPECT_EQ(released(outbox, 9), (Texts{"change", "other change"}));
}

TEST(Outbox, while_the_store_is_up_what_tells_waits_like_any_other) {
  Outbox outbox;
  outbox.hold(frame("change"), 8);
  outbox.hold(frame("old news"), 8, {"a", 3});
  EXPECT_EQ(released(outbox, 7), Texts{});
  EXPECT_EQ(released(outbox, 8), (Texts{"change", "old news"}));
}

}  // namespace
}  // namespace sluice::broker_outbox_test
