// `sluice logs`, against a broker that answers as it is told.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.hpp>

#include "common/protocol/codec.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_logs_test {
namespace {

using test::Ended;
using test::ScriptedBroker;
using test::sluice;
using testing::ElementsAre;
using testing::HasSubstr;

using Bodies = std::vector<ReplyBody>;

LogChunk chunk(std::uint64_t offset, std::uint32_t attempt, std::string bytes) {
  return {offset, attempt, 1000, std::move(bytes)};
}

LogPage page(JobState state, std::vector<LogChunk> chunks, std::uint64_t size) {
  LogPage page{JobId("a"), state, std::move(chunks), size, size};
  if (!page.chunks.empty()) page.next = page.chunks.back().offset + page.chunks.back().bytes.size();
  return page;
}

// The events port of a broker.
class Publisher {
 public:
  Publisher() {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 60'000);
    socket_.bind("tcp://127.0.0.1:*");
  }

  [[nodiscard]] std::string address() const { return socket_.get(zmq::sockopt::last_endpoint); }

  // The topic that somebody has subscribed to.
  std::string topic() {
    zmq::message_t message;
    return socket_.recv(message) ? message.to_string().substr(1) : "none";
  }

  void publish(LogChunk chunk) {
    const LogEvent event{JobId("a"), std::move(chunk)};
    socket_.send(zmq::str_buffer("log.a"), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(encode_event(event, 1)), zmq::send_flags::none);
  }

 private:
  zmq::context_t context_{1};
  zmq::socket_t socket_{context_, zmq::socket_type::xpub};
};

// Gives the pages in turn; what was asked for is noted.
struct Pages {
  std::vector<ReplyBody> left;
  std::vector<std::uint64_t> asked;

  ReplyBody next(const RequestBody& body) {
    const auto* logs = std::get_if<Logs>(&body);
    asked.push_back(logs == nullptr ? 999 : logs->from);
    if (left.empty()) return ErrorReply{{ErrorCode::internal, "", "one too many"}, false, {}};
    ReplyBody first = std::move(left.front());
    left.erase(left.begin());
    return first;
  }

  Ended ask(const std::vector<std::string>& command) {
    const Publisher silent;
    const ScriptedBroker broker([this](const RequestBody& body) { return Bodies{next(body)}; });
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--broker", broker.address(), "--timeout", "60s"});
    if (command.at(1) == "-f") arguments.insert(arguments.end(), {"--events", silent.address()});
    return sluice(arguments);
  }
};

TEST(CliLogs, are_the_bytes_of_all_pages) {
  Pages pages{{page(JobState::running, {chunk(0, 1, "one\n"), chunk(4, 1, "tw")}, 9),
               page(JobState::running, {chunk(6, 2, "\x1b\xff\n")}, 9)},
              {}};
  const Ended ended = pages.ask({"logs", "a"});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(ended.out, "one\ntw\x1b\xff\n") << "into a pipe as they are";
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(pages.asked, ElementsAre(0, 6));
}

TEST(CliLogs, of_one_attempt_leave_out_the_others) {
  Pages pages{{page(JobState::completed, {chunk(0, 1, "one\n"), chunk(4, 2, "two\n")}, 8)}, {}};
  EXPECT_EQ(pages.ask({"logs", "a", "--attempt", "2"}).out, "two\n");
}

TEST(CliLogs, say_how_much_is_not_kept_any_more) {
  Pages pages{{page(JobState::completed, {chunk(100, 1, "end\n")}, 104)}, {}};
  const Ended ended = pages.ask({"logs", "a"});
  EXPECT_EQ(ended.out, "end\n");
  EXPECT_THAT(ended.err, HasSubstr("100 bytes before this are not kept any more"));
}

TEST(CliLogs, as_json_are_an_object_per_piece) {
  Pages pages{{page(JobState::completed, {chunk(0, 1, "a\n"), chunk(2, 1, "\xff")}, 3)}, {}};
  EXPECT_EQ(pages.ask({"logs", "a", "--json"}).out,
            R"({"offset":0,"attempt":1,"at_ms":1000,"text":"a\n"})"
            "\n"
            R"({"offset":2,"attempt":1,"at_ms":1000,"base64":"/w=="})"
            "\n");
}

TEST(CliLogs, followed_go_on_until_the_job_has_ended_and_all_is_shown) {
  Pages pages{{page(JobState::queued, {}, 0),
               page(JobState::running, {chunk(0, 1, "one\n")}, 4),
               page(JobState::running, {}, 4),
               page(JobState::completed, {chunk(4, 1, "two\n")}, 10),
               page(JobState::completed, {chunk(8, 1, "3\n")}, 10)},
              {}};
  const Ended ended = pages.ask({"logs", "-f", "a"});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(ended.out, "one\ntwo\n3\n");
  EXPECT_THAT(pages.asked, ElementsAre(0, 0, 4, 4, 8));
}

// The broker gives none of the first two pieces, however often it is asked.
TEST(CliLogs, followed_are_shown_as_they_are_told_and_asked_for_where_one_was_missed) {
  Publisher publisher;
  std::vector<std::uint64_t> asked;
  const auto answer = [&](const RequestBody& body) -> Bodies {
    asked.push_back(std::get<Logs>(body).from);
    if (asked.size() == 1) {
      EXPECT_EQ(publisher.topic(), "log.a");
      publisher.publish(chunk(0, 1, "one\n"));
      publisher.publish(chunk(0, 1, "one\n"));
      publisher.publish(chunk(4, 1, "two\n"));
      publisher.publish(chunk(10, 1, "4\n"));
    }
    if (asked.back() == 0 && asked.size() < 100) return {page(JobState::running, {}, 0)};
    return {page(JobState::completed, {chunk(8, 1, "3\n"), chunk(10, 1, "4\n")}, 12)};
  };
  const ScriptedBroker broker(answer);
  const Ended ended =
      sluice({"logs", "-f", "a", "--broker", broker.address(), "--events", publisher.address()});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(ended.out, "one\ntwo\n3\n4\n");
  EXPECT_EQ(ended.err, "");
  EXPECT_EQ(asked.back(), 8U);
}

TEST(CliLogs, followed_outlive_a_refusal_that_passes) {
  const ErrorReply full{{ErrorCode::store_full, "", "Redis is full"}, true, 10};
  Pages pages{{page(JobState::running, {chunk(0, 1, "one\n")}, 4),
               full,
               page(JobState::failed, {chunk(4, 1, "two\n")}, 8)},
              {}};
  const Ended ended = pages.ask({"logs", "-f", "a"});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(ended.out, "one\ntwo\n");
  EXPECT_THAT(ended.err, HasSubstr("Redis is full; waiting for it"));
  EXPECT_THAT(ended.err, HasSubstr("is back"));
}

TEST(CliLogs, of_an_unknown_job_are_not_found_and_of_a_removed_one_end) {
  const ErrorReply gone{{ErrorCode::not_found, "id", "no such job"}, false, {}};
  Pages unknown{{gone}, {}};
  const Ended none = unknown.ask({"logs", "-f", "a"});
  EXPECT_EQ(none.code, kExitNotFound);
  EXPECT_THAT(none.err, HasSubstr("no such job"));
  Pages removed{{page(JobState::queued, {}, 0), gone}, {}};
  const Ended ended = removed.ask({"logs", "-f", "a"});
  EXPECT_EQ(ended.code, kExitOk);
  EXPECT_THAT(ended.err, HasSubstr("was removed"));
}

TEST(CliLogs, need_one_id_and_an_attempt_that_there_can_be) {
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"logs"},
                                                {"logs", "a b"},
                                                {"logs", "a", "b"},
                                                {"logs", "a", "--attempt", "0"}})
    EXPECT_EQ(sluice(wrong).code, kExitUsage) << wrong.back();
}

}  // namespace
}  // namespace sluice::cli::producer_logs_test
