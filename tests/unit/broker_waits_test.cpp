#include <gtest/gtest.h>

#include "broker/core/waits.h"
#include "common/protocol/codec.h"

namespace sluice::broker_waits_test {
namespace {

const Peer kDealer{"dealer", false};
const Peer kReq{"req", true};  // gets one message a request

// A wait for `ids`; its request has the number `req`.
Waits::Opening wait_for(const Peer& peer,
                        std::uint64_t req,
                        const std::vector<std::string>& ids,
                        std::int64_t deadline_ms = kNever) {
  Waits::Opening opening;
  opening.peer = peer;
  opening.req = make_req(req);
  opening.deadline_ms = deadline_ms;
  for (const std::string& id : ids)
    opening.ids.emplace_back(id);
  return opening;
}

JobView view_of_end(const std::string& id, std::size_t result_bytes = 0) {
  Job job;
  job.spec.id = JobId(id);
  job.state = JobState::completed;
  job.result.assign(result_bytes, 'r');
  return {.id = job.id(), .job = job, .state = job.state, .finished_ms = 1};
}

std::vector<ReplySend> said(Waits& waits, std::int64_t mono_ms = 0) {
  Output out;
  waits.settle(mono_ms, out);
  return std::move(out.replies);
}

template <typename Body>
const Body& body(const ReplySend& send) {
  return std::get<Body>(send.reply.body);
}

TEST(Waits, ids_of_all_waits_together_are_bounded_and_given_back) {
  Waits waits;
  EXPECT_TRUE(waits.has_room(Waits::kWaitedIdsMax));
  EXPECT_FALSE(waits.has_room(Waits::kWaitedIdsMax + 1));
  waits.open(wait_for(kDealer, 1, {"a", "b"}, 100));
  waits.open(wait_for(kReq, 2, {"a"}));
  const auto has_left = [&](std::size_t ids) {
    return waits.has_room(ids) && !waits.has_room(ids + 1);
  };
  EXPECT_TRUE(has_left(Waits::kWaitedIdsMax - 3));
  waits.ended(view_of_end("a"));
  EXPECT_TRUE(has_left(Waits::kWaitedIdsMax - 1)) << "it was waited for twice";
  (void)said(waits, 100);
  EXPECT_TRUE(has_left(Waits::kWaitedIdsMax)) << "the time of the first wait was over";
  EXPECT_EQ(waits.count(), 0U);
}

TEST(Waits, time_is_over_at_the_deadline_and_not_before) {
  Waits waits;
  EXPECT_EQ(waits.next_deadline_ms(), kNever);
  waits.open(wait_for(kDealer, 1, {"b", "a"}, 500));
  waits.open(wait_for(kReq, 2, {"a"}, 300));
  EXPECT_EQ(waits.next_deadline_ms(), 300);
  EXPECT_TRUE(said(waits, 299).empty());
  const auto first = said(waits, 300);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].peer, kReq);
  EXPECT_EQ(first[0].reply.req, make_req(2));
  EXPECT_EQ(body<Waited>(first[0]).unfinished, std::vector<JobId>{JobId("a")});
  EXPECT_EQ(waits.next_deadline_ms(), 500);
  const auto second = said(waits, 500);
  ASSERT_EQ(second.size(), 1U) << "nothing had ended, so there is no `finished`";
  EXPECT_EQ(body<Waited>(second[0]).unfinished, (std::vector<JobId>{JobId("b"), JobId("a")}));
  EXPECT_EQ(waits.next_deadline_ms(), kNever);
}

TEST(Waits, a_wait_that_closed_early_takes_its_deadline_with_it) {
  Waits waits;
  waits.open(wait_for(kReq, 1, {"a"}, 300));
  waits.ended(view_of_end("a"));
  const auto closed = said(waits);
  ASSERT_EQ(closed.size(), 1U);
  EXPECT_TRUE(body<Waited>(closed[0]).unfinished.empty());
  EXPECT_EQ(waits.next_deadline_ms(), kNever);
  EXPECT_TRUE(said(waits, 300).empty());
}

TEST(Waits, an_end_is_told_to_everyone_who_still_waits_in_the_order_of_their_asking) {
  Waits waits;
  waits.open(wait_for(kReq, 1, {"a"}, 10));
  waits.open(wait_for(kDealer, 2, {"a", "b"}));
  waits.open(wait_for(kReq, 3, {"a"}));
  (void)said(waits, 10);
  waits.ended(view_of_end("a"));
  waits.ended(view_of_end("nobody's"));
  const auto replies = said(waits, 11);
  ASSERT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[0].reply.req, make_req(2));
  EXPECT_EQ(body<Finished>(replies[0]).jobs.at(0).id, JobId("a"));
  EXPECT_EQ(replies[1].reply.req, make_req(3));
  EXPECT_EQ(body<Waited>(replies[1]).jobs.at(0).id, JobId("a"));
  EXPECT_EQ(waits.count(), 1U);
  EXPECT_TRUE(said(waits, 12).empty()) << "an end is told once";
}

TEST(Waits, a_wait_for_what_has_ended_closes_with_the_next_turn) {
  Waits waits;
  for (const Peer& peer : {kDealer, kReq}) {
    auto opening = wait_for(peer, 1, {});
    opening.ended = {view_of_end("a")};
    waits.open(std::move(opening));
  }
  const auto replies = said(waits);
  ASSERT_EQ(replies.size(), 3U);
  EXPECT_EQ(body<Finished>(replies[0]).jobs.size(), 1U);
  EXPECT_TRUE(body<Waited>(replies[1]).jobs.empty()) << "it has been told already";
  EXPECT_EQ(body<Waited>(replies[2]).jobs.size(), 1U);
}

// It tells of no job, so a store that is away need not hold it up.
TEST(Waits, an_end_of_time_with_nothing_to_tell_tells_of_no_batch) {
  Waits waits;
  waits.open(wait_for(kReq, 1, {"a"}, 300));
  waits.open(wait_for(kDealer, 2, {"a", "b"}, 300));
  waits.open(wait_for(kDealer, 3, {"a"}, 400));
  EXPECT_EQ(said(waits, 300).at(0).tells_of_batch, 0U);
  waits.open(wait_for(kDealer, 4, {"a", "b"}, 500));
  waits.ended(view_of_end("a"));
  const auto told = said(waits, 400);
  ASSERT_EQ(told.size(), 3U);
  for (const ReplySend& reply : told)
    EXPECT_FALSE(reply.tells_of_batch) << "of `a`, which may not be durable";
  const auto last = said(waits, 500);
  ASSERT_EQ(last.size(), 1U);
  EXPECT_FALSE(last[0].tells_of_batch) << "must not overtake what was told before it";
}

TEST(Waits, ended_jobs_that_wait_to_be_told_are_bounded_over_all_waits) {
  Waits waits;
  constexpr std::size_t kWaits = 100;
  for (std::size_t i = 0; i < kWaits; ++i)
    waits.open(wait_for(kReq, i, {"big", "open"}, 100));
  waits.ended(view_of_end("big", 1u << 20));
  EXPECT_TRUE(said(waits, 1).empty());
  std::size_t whole = 0;
  const auto answers = said(waits, 100);
  for (const ReplySend& answer : answers)
    whole += body<Waited>(answer).jobs.size();
  EXPECT_EQ(answers.size(), kWaits);
  EXPECT_LT(whole, Waits::kFreshBytesMax >> 20) << "the rest is named";
  EXPECT_GT(whole, Waits::kFreshBytesMax >> 21);
  for (const ReplySend& answer : answers)
    EXPECT_EQ(body<Waited>(answer).jobs.size() + body<Waited>(answer).more.size(), 1U);
  waits.open(wait_for(kReq, 1, {"big"}, 200));
  waits.ended(view_of_end("big", 1u << 20));
  EXPECT_EQ(body<Waited>(said(waits, 101).at(0)).jobs.size(), 1U) << "the room is given back";
}

TEST(Waits, only_the_answer_to_a_submit_says_how_durable_it_is) {
  for (const bool is_submit : {false, true}) {
    Waits waits;
    auto opening = wait_for(kReq, 1, {});
    opening.is_submit = is_submit;
    opening.durability = Durability::always;
    if (is_submit) opening.results = {{"a", SubmitStatus::duplicate, JobState::failed, {}}};
    waits.open(std::move(opening));
    const auto replies = said(waits);
    const auto& waited = body<Waited>(replies.at(0));
    EXPECT_EQ(waited.durable, is_submit ? std::optional(Durability::always) : std::nullopt);
    EXPECT_EQ(waited.results.size(), is_submit ? 1U : 0U);
  }
}

// Nine results of a megabyte are more than a message may have.
TEST(Waits, an_answer_fits_into_a_message_and_names_what_did_not) {
  std::vector<std::string> ids;
  for (int i = 0; i < 9; ++i)
    ids.push_back("j" + std::to_string(i));
  for (const Peer& peer : {kDealer, kReq}) {
    Waits waits;
    waits.open(wait_for(peer, 1, ids));
    for (const std::string& id : ids)
      waits.ended(view_of_end(id, kResultBytesMax));
    const auto replies = said(waits);
    const auto take = [&](const auto& answer) {
      EXPECT_GE(answer.jobs.size(), 7U) << "as many as it can hold";
      std::vector<std::string> told;
      for (const JobView& view : answer.jobs)
        told.push_back(view.id.str());
      for (const JobId& id : answer.more)
        told.push_back(id.str());
      EXPECT_EQ(told, ids);
    };
    peer.has_delimiter ? take(body<Waited>(replies.at(0))) : take(body<Finished>(replies.at(0)));
    for (const ReplySend& send : replies)
      EXPECT_LE(encode_reply(send.reply).size(), kMessageBytesMax);
  }
}

TEST(Waits, each_message_of_a_wait_has_its_own_room) {
  Waits waits;
  waits.open(wait_for(kDealer, 1, {"a", "b", "c"}));
  for (const char* id : {"a", "b"}) {
    waits.ended(view_of_end(id, 6U << 20));
    const auto replies = said(waits);
    ASSERT_EQ(replies.size(), 1U);
    EXPECT_EQ(body<Finished>(replies[0]).jobs.size(), 1U) << id;
  }
}

}  // namespace
}  // namespace sluice::broker_waits_test
