// `sluice logs`, against a broker that answers as it is told.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
    const ScriptedBroker broker([this](const RequestBody& body) { return Bodies{next(body)}; });
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--broker", broker.address(), "--timeout", "60s"});
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
