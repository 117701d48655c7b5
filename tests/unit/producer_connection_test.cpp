#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.hpp>

#include "common/clock.h"
#include "common/protocol/codec.h"
#include "producer/connection.h"
#include "tests/support/scripted_broker.h"

namespace sluice::producer_connection_test {
namespace {

using test::ScriptedBroker;
using Bodies = std::vector<ReplyBody>;

constexpr std::int64_t kPatienceMs = 60'000;

std::optional<Connection::Answer> receive(Connection& connection) {
  return connection.receive(monotonic_ms() + kPatienceMs, {kPatienceMs, kPatienceMs});
}

std::uint64_t number_of_next(Connection& connection) {
  const auto answer = receive(connection);
  return answer ? answer->number : 0;
}

TEST(Connection, an_address_that_is_none_is_named_with_how_to_write_one) {
  for (const std::string wrong : {"nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:*", ""})
    EXPECT_THAT([&] { Connection connection(wrong); },
                testing::ThrowsMessage<std::runtime_error>(
                    testing::AllOf(testing::StartsWith("'" + wrong + "' is no address"),
                                   testing::EndsWith("write tcp://HOST:PORT"))));
}

TEST(Connection, an_answer_comes_under_the_number_of_its_request_and_closes_it) {
  const ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Ping>(body)) return {Pong{}};
    return {Done{"purged", 5}};
  });
  Connection connection(broker.address());
  EXPECT_EQ(connection.post(Purge{"q"}), 1U);
  EXPECT_EQ(connection.post(Ping{}), 2U);
  EXPECT_EQ(connection.open_count(), 2U);
  for (std::size_t left = 2; left-- > 0;) {
    const auto answer = receive(connection);
    ASSERT_TRUE(answer);
    EXPECT_EQ(std::holds_alternative<Done>(answer->body), answer->number == 1);
    EXPECT_TRUE(answer->is_closing);
    EXPECT_EQ(connection.open_count(), left);
  }
  EXPECT_TRUE(connection.is_up());
  EXPECT_TRUE(connection.was_up());
}

TEST(Connection, a_request_stays_open_until_its_closing_answer) {
  const ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Wait>(body)) return {Finished{}, Waited{}};
    return {Submitted{{}, {}, true}, Finished{}, Waited{}};
  });
  Connection connection(broker.address());
  for (const RequestBody& request :
       {RequestBody(Wait{{JobId("a")}, 5}), RequestBody(Submit{{RejectedJob{"a", {}}}, true})}) {
    connection.post(request);
    const std::size_t open_answers = std::holds_alternative<Wait>(request) ? 1 : 2;
    for (std::size_t i = 0; i <= open_answers; ++i) {
      const auto answer = receive(connection);
      ASSERT_TRUE(answer);
      EXPECT_EQ(answer->is_closing, i == open_answers);
      EXPECT_EQ(connection.open_count(), i == open_answers ? 0U : 1U);
    }
  }
}

TEST(Connection, an_answer_to_what_was_forgotten_or_closed_is_dropped) {
  const ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Wait>(body)) return {Finished{}, Waited{}};
    return {Pong{}, Pong{}};
  });
  Connection connection(broker.address());
  connection.post(Wait{{JobId("a")}, 5});
  ASSERT_EQ(number_of_next(connection), 1U);
  connection.forget(1);
  EXPECT_EQ(connection.open_count(), 0U);
  connection.forget(99);
  connection.post(Ping{});
  EXPECT_EQ(number_of_next(connection), 2U) << "not the end of the first";
  connection.post(Ping{});
  EXPECT_EQ(number_of_next(connection), 3U) << "not the second answer to the second";
}

TEST(Connection, what_is_no_answer_is_passed_over) {
  zmq::context_t context{1};
  zmq::socket_t broker(context, zmq::socket_type::router);
  broker.set(zmq::sockopt::linger, 0);
  broker.set(zmq::sockopt::rcvtimeo, static_cast<int>(kPatienceMs));
  broker.bind("tcp://127.0.0.1:*");
  std::thread answering([&] {
    zmq::message_t peer, frame;
    if (!broker.recv(peer) || !broker.recv(frame)) return;
    const std::string pong = encode_reply({make_req(1), Pong{}});
    const std::string strange = encode_reply({make_req(77), Pong{}});
    const std::string nobody = encode_reply({"", Pong{}});
    for (const std::vector<std::string>& frames : {std::vector<std::string>{"no msgpack"},
                                                   {""},
                                                   {pong, pong},
                                                   {strange},
                                                   {nobody},
                                                   {pong}}) {
      broker.send(zmq::buffer(peer.data(), peer.size()), zmq::send_flags::sndmore);
      for (std::size_t i = 0; i < frames.size(); ++i)
        broker.send(zmq::buffer(frames[i]),
                    i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  });
  Connection connection(broker.get(zmq::sockopt::last_endpoint));
  connection.post(Ping{});
  EXPECT_EQ(number_of_next(connection), 1U);
  EXPECT_EQ(connection.open_count(), 0U);
  answering.join();
}

TEST(Connection, receive_returns_at_its_deadline_and_keeps_what_is_open) {
  std::string address;
  {
    const ScriptedBroker gone([](const RequestBody&) { return Bodies{}; });
    address = gone.address();
  }
  Connection connection(address);
  connection.post(Ping{});
  EXPECT_FALSE(connection.receive(monotonic_ms(), {kPatienceMs, kPatienceMs}))
      << "the deadline has come";
  EXPECT_FALSE(connection.receive(monotonic_ms() + kPatienceMs, {0, 0})) << "down for long enough";
  EXPECT_FALSE(connection.was_up());
  EXPECT_EQ(connection.open_count(), 1U);
  EXPECT_EQ(connection.refusal(), "");
  const ScriptedBroker broker([](const RequestBody&) { return Bodies{Pong{}}; }, address);
  EXPECT_EQ(number_of_next(connection), 1U);
}

TEST(Connection, what_is_unanswered_goes_out_again_in_its_order_on_the_next_connection) {
  auto first = std::make_unique<ScriptedBroker>([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Ping>(body)) return {Pong{}};
    return {};
  });
  const std::string address = first->address();
  Connection connection(address);
  connection.post(Pause{"a"});
  connection.post(Pause{"b"});
  connection.post(Ping{});
  ASSERT_EQ(number_of_next(connection), 3U);
  first.reset();
  EXPECT_FALSE(connection.receive(monotonic_ms() + kPatienceMs, {0, 0}));
  EXPECT_FALSE(connection.is_up());
  EXPECT_TRUE(connection.was_up());
  const ScriptedBroker next([](const RequestBody&) { return Bodies{Done{"paused", 0}}; }, address);
  EXPECT_EQ(number_of_next(connection), 1U);
  EXPECT_EQ(number_of_next(connection), 2U);
  EXPECT_EQ(connection.open_count(), 0U) << "the answered one is not asked again";
}

// libzmq tells of a lost connection before it has taken its pipe away: what was sent in between was
// lost with it, and nobody sends a wait again for silence.
TEST(Connection, a_wait_goes_out_again_after_every_restart_of_the_broker) {
  constexpr int kWaiters = 20;
  std::string address = "tcp://127.0.0.1:*";
  std::vector<std::future<bool>> waiters;
  for (int restart = 0; restart <= 5; ++restart) {
    std::counting_semaphore<> heard(0);
    const ScriptedBroker broker(
        [&](const RequestBody&) {
          heard.release();
          return restart < 5 ? Bodies{} : Bodies{Waited{}};
        },
        address);
    address = broker.address();
    while (waiters.size() < kWaiters)
      waiters.push_back(std::async(std::launch::async, [address] {
        Connection connection(address);
        connection.post(Wait{{JobId("a")}, 3'600'000});
        return receive(connection).has_value();
      }));
    for (int waiter = 0; waiter < kWaiters; ++waiter)
      ASSERT_TRUE(heard.try_acquire_for(std::chrono::seconds(20)))
          << waiter << " of them after " << restart << " restarts";
    if (restart < 5) continue;
    for (auto& waiter : waiters)
      EXPECT_TRUE(waiter.get());
  }
}

}  // namespace
}  // namespace sluice::producer_connection_test
