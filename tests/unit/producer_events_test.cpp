// What producer_cli_test.cpp and producer_cli_silence_test.cpp leave open of `sluice events`.
#include <algorithm>
#include <array>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.hpp>

#include "common/protocol/codec.h"
#include "producer/cli/cli.h"
#include "tests/support/cli.h"

namespace sluice::cli::producer_events_test {
namespace {

using test::Ended;
using test::sluice;
using testing::ContainsRegex;
using testing::HasSubstr;

using Numbered = std::pair<std::uint64_t, EventBody>;

JobEvent progress() {
  return {"progress", JobId("a"), "mail", "send", "n@1", 2, 1, 50, "", 3};
}

// The command watches a publisher that says `events` as soon as it has subscribed.
class CliEvents : public testing::Test {
 protected:
  // The command takes SIGINT and SIGTERM for itself.
  CliEvents() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], nullptr, &before_[i]);
  }

  ~CliEvents() override {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &before_[i], nullptr);
  }

  static Ended watch(std::vector<std::string> arguments, const std::vector<Numbered>& events) {
    zmq::context_t context{1};
    zmq::socket_t socket(context, zmq::socket_type::xpub);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, 60'000);
    socket.bind("tcp://127.0.0.1:*");
    arguments.insert(arguments.begin(), "events");
    arguments.insert(arguments.end(),
                     {"--events", socket.get(zmq::sockopt::last_endpoint), "--timeout", "60s"});
    const bool has_topic = !arguments[1].starts_with('-');
    const int subscriptions = has_topic ? 1 : 2;  // of one without a topic: jobs and nodes
    std::thread publisher([&] { publish(socket, subscriptions, events); });
    const Ended ended = sluice(arguments);
    publisher.join();
    return ended;
  }

 private:
  static constexpr std::array<int, 2> kSignals = {SIGINT, SIGTERM};

  static void publish(zmq::socket_t& socket,
                      int subscriptions,
                      const std::vector<Numbered>& events) {
    zmq::message_t subscription;
    for (; subscriptions > 0; --subscriptions)
      if (!socket.recv(subscription)) return;
    for (const auto& [sequence, event] : events) {
      socket.send(zmq::buffer(event_topic(event)), zmq::send_flags::sndmore);
      socket.send(zmq::buffer(encode_event(event, sequence)), zmq::send_flags::none);
    }
  }

  std::array<struct sigaction, 2> before_{};
};

TEST_F(CliEvents, as_json_are_one_line_each_with_the_names_of_the_protocol) {
  const Ended ended =
      watch({"--json", "--count", "2"}, {{7, progress()}, {8, NodeEvent{"left", "n@1", 4}}});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(ended.out,
            R"({"event":"job.progress","id":"a","queue":"mail","task":"send","node":"n@1",)"
            R"("attempt":2,"retry_count":1,"percent":50,"error_code":"","at_ms":3,"sequence":7})"
            "\n"
            R"({"event":"node.left","node":"n@1","at_ms":4,"sequence":8})"
            "\n");
}

TEST_F(CliEvents, as_text_say_what_there_is_to_say) {
  JobEvent queued{"queued", JobId("b"), "mail", "send", "", 0, 0, 0, "", 3};
  JobEvent failed{"failed", JobId("c"), "mail", "send", "n@1", 2, 0, 50, "e\x1b[2J", 3};
  const Ended ended =
      watch({"--count", "4"},
            {{1, progress()}, {2, queued}, {3, failed}, {4, NodeEvent{"dead", "n@1", 4}}});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_THAT(ended.out, ContainsRegex("  job  progress +a  mail/send  attempt 2  on n@1  50 %\n"));
  EXPECT_THAT(ended.out, ContainsRegex("  job  queued +b  mail/send\n"));
  EXPECT_THAT(ended.out,
              ContainsRegex("  job  failed +c  mail/send  attempt 2  on n@1  e\\\\x1b\\[2J\n"));
  EXPECT_THAT(ended.out, ContainsRegex("  node dead +n@1\n"));
}

TEST_F(CliEvents, of_a_log_are_shown_to_who_names_it) {
  const LogEvent log{JobId("a"), {6, 2, 3, "half\x1b"}};
  const Ended text = watch({"log.a", "--count", "1"}, {{1, log}});
  EXPECT_EQ(text.code, kExitOk) << text.err;
  EXPECT_THAT(text.out, ContainsRegex("  log  a  attempt 2  half\\\\x1b\n"));
  const Ended json = watch({"log.", "--json", "--count", "1"}, {{1, log}});
  EXPECT_EQ(json.out,
            R"({"event":"log","id":"a","offset":6,"attempt":2,"at_ms":3,"text":"half\u001b"})"
            "\n");
}

TEST_F(CliEvents, end_after_as_many_as_were_asked_for) {
  const Ended ended =
      watch({"-n", "2", "--json"}, {{1, progress()}, {2, progress()}, {3, progress()}});
  EXPECT_EQ(ended.code, kExitOk);
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 2);
}

TEST_F(CliEvents, that_were_missed_are_counted_where_all_are_watched) {
  const Ended all = watch({"--count", "3"}, {{5, progress()}, {6, progress()}, {9, progress()}});
  EXPECT_EQ(all.err, "sluice: 2 events were missed\n");
  const Ended some = watch({"job", "--count", "2"}, {{5, progress()}, {9, progress()}});
  EXPECT_EQ(some.err, "") << "the others are of topics that nobody asked for";
}

TEST_F(CliEvents, need_an_address_and_a_count_that_there_are) {
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"events", "--events", "nonsense"},
        {"events", "--events", "tcp://127.0.0.1:*"},
        {"events", "--count", "-1"},
        {"events", "--count", "many"},
        {"events", "", "--count", "0"}}) {
    const Ended ended = sluice(wrong);
    EXPECT_EQ(ended.code, kExitUsage) << wrong.back();
    EXPECT_THAT(ended.err, HasSubstr("Try 'sluice events --help'"));
  }
  EXPECT_THAT(sluice({"events", "--events", "nonsense"}).err, HasSubstr("write tcp://HOST:PORT"));
}

}  // namespace
}  // namespace sluice::cli::producer_events_test
