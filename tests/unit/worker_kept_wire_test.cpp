#include <unistd.h>

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/kept_wire.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_kept_wire_test {
namespace {

using namespace sluice;
using nlohmann::json;
using testing::HasSubstr;

const JobId kId("a");
constexpr Fence kFence{7, 3};

RunJob job(std::string payload = {}, std::string content_type = "application/json") {
  RunJob made;
  made.id = kId;
  made.fence = kFence;
  made.task = "t";
  made.queue = "q";
  made.max_retries = 2;
  made.payload = std::move(payload);
  made.content_type = std::move(content_type);
  return made;
}

json said(const RunJob& given) {
  const std::string line = kept_job(given, KeptProtocol::json);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  return json::parse(line);
}

AttemptResult result_of(const std::string& line) {
  auto word = read_kept(line, kId, kFence, KeptProtocol::json);
  EXPECT_TRUE(word) << (word ? "" : word.error().detail);
  return word ? std::get<AttemptResult>(*word) : AttemptResult{};
}

std::string refusal_of(const std::string& line) {
  const auto word = read_kept(line, kId, kFence, KeptProtocol::json);
  return word ? "taken" : word.error().detail;
}

TEST(KeptWire, a_job_is_a_line_with_everything_that_there_is) {
  RunJob full = job(R"({"ticker":"AAPL"})");
  full.timeout_ms = 1500;
  full.retry_count = 1;
  full.headers = {{"trace", "x1"}};
  full.checkpoint = "half";
  EXPECT_EQ(kept_job(full, KeptProtocol::json),
            R"({"id":"a","attempt":3,"fence":"7.3","task":"t","queue":"q","retry_count":1,)"
            R"("max_retries":2,"timeout_ms":1500,"headers":{"trace":"x1"},)"
            R"("content_type":"application/json","checkpoint":"half",)"
            R"("payload":{"ticker":"AAPL"}})"
            "\n");
  const json bare = said(job());
  EXPECT_EQ(bare["payload"], nullptr);
  for (const char* absent : {"timeout_ms", "headers", "checkpoint", "payload_base64"})
    EXPECT_FALSE(bare.contains(absent)) << absent;
  EXPECT_EQ(kept_stop(kId, KeptProtocol::json), "{\"stop\":\"a\"}\n");
}

TEST(KeptWire, a_payload_that_json_cannot_say_is_base64) {
  EXPECT_EQ(said(job("two\nlines", "text/plain"))["payload"], "two\nlines");
  EXPECT_EQ(said(job("\xff\xfe", "text/plain"))["payload_base64"], "//4=");
  EXPECT_EQ(said(job("{no json"))["payload_base64"], "e25vIGpzb24=");
  const std::vector<std::uint8_t> packed = json::to_msgpack({{"n", 7}});
  EXPECT_EQ(said(job(std::string(packed.begin(), packed.end()), "application/msgpack"))["payload"],
            json({{"n", 7}}));
  EXPECT_EQ(said(job("\xc4\x01z", "application/msgpack"))["payload_base64"], "xAF6");
  EXPECT_EQ(said(job("\xa1\xff", "application/msgpack"))["payload_base64"], "of8=");
  RunJob resumed = job();
  resumed.checkpoint = "\xff";
  EXPECT_EQ(said(resumed)["checkpoint_base64"], "/w==");
}

TEST(KeptWire, a_result_is_the_text_itself_or_the_json_of_a_value) {
  EXPECT_EQ(result_of(R"({"result":"done"})").result, "done");
  EXPECT_EQ(result_of(R"({"id":"a","result":{"n":[1,2]}})").result, R"({"n":[1,2]})");
  EXPECT_EQ(result_of(R"({"result":null})").result, "null");
  EXPECT_EQ(result_of(R"({"result_base64":"//4="})").result, "\xff\xfe");
  const AttemptResult result = result_of(R"({"result":""})");
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_EQ(result.id, kId);
  EXPECT_EQ(result.fence, kFence);
}

TEST(KeptWire, an_error_has_a_code_a_message_and_says_whether_to_try_again) {
  const AttemptResult plain = result_of(R"({"error":"no such ticker"})");
  EXPECT_EQ(plain.outcome, Outcome::failed);
  EXPECT_EQ(plain.error_code, "failed");
  EXPECT_EQ(plain.error, "no such ticker");
  EXPECT_TRUE(plain.retryable);
  const AttemptResult full = result_of(
      R"({"error":{"code":"busy","message":"later","retry":false,"retry_after_ms":250}})");
  EXPECT_EQ(full.error_code, "busy");
  EXPECT_EQ(full.error, "later");
  EXPECT_FALSE(full.retryable);
  EXPECT_EQ(full.retry_after_ms, 250);
  EXPECT_EQ(result_of(R"({"error":{"retry_after_ms":18446744073709551615}})").retry_after_ms,
            kTenYearsMs);
}

TEST(KeptWire, progress_has_a_percentage_words_and_a_checkpoint) {
  const auto word = read_kept(R"({"progress":49.9,"message":"half","checkpoint":"page 3"})",
                              kId,
                              kFence,
                              KeptProtocol::json);
  ASSERT_TRUE(word);
  const auto& progress = std::get<AttemptProgress>(*word);
  EXPECT_EQ(progress.percent, 49U);
  EXPECT_EQ(progress.message, "half");
  EXPECT_EQ(progress.checkpoint, "page 3");
  EXPECT_EQ(progress.id, kId);
}

TEST(KeptWire, what_is_about_another_job_is_nobody_s) {
  EXPECT_NE(result_of(R"({"id":"b","result":1})").id, kId);
  const auto word = read_kept(R"({"id":"b","progress":1})", kId, kFence, KeptProtocol::json);
  ASSERT_TRUE(word);
  EXPECT_NE(std::get<AttemptProgress>(*word).id, kId);
}

TEST(KeptWire, what_is_wrong_is_named) {
  const std::string long_checkpoint(kCheckpointBytesMax + 1, 'x');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"hello", "a line of stdout is no JSON object: hello"},
      {"[1]", "no JSON object: [1]"},
      {std::string(100, '['), "no JSON object"},
      {"{}", "one of \"result\", \"error\" and \"progress\""},
      {R"({"id":"a"})", "one of \"result\""},
      {R"({"result":1,"error":"x"})", "one of \"result\""},
      {R"({"result":1,"resutl":1})", "unknown key \"resutl\"; there are id, result"},
      {R"({"progress":5,"result":1})", "unknown key \"result\"; there are id, progress"},
      {R"({"id":7,"result":1})", "\"id\" must be a text"},
      {R"({"progress":101})", "from 0 to 100"},
      {R"({"progress":-1})", "from 0 to 100"},
      {R"({"progress":"5"})", "from 0 to 100"},
      {R"({"progress":5,"message":5})", "\"message\" must be a text"},
      {R"({"progress":5,"checkpoint":{}})", "\"checkpoint\" must be a text"},
      {R"({"progress":5,"checkpoint":")" + long_checkpoint + "\"}", "at most 4096 bytes"},
      {R"({"result_base64":"%%"})", "no base64"},
      {R"({"result_base64":5})", "no base64"},
      {R"({"error":5})", "\"error\" must be a text or a map"},
      {R"({"error":{"code":5}})", "\"code\" must be a text"},
      {R"({"error":{"message":5}})", "\"message\" must be a text"},
      {R"({"error":{"retry":"no"}})", "\"retry\" must be true or false"},
      {R"({"error":{"retry_after_ms":-1}})", "number of milliseconds"},
      {R"({"error":{"retries":1}})", "in \"error\": unknown key \"retries\""},
  };
  for (const auto& [line, words] : cases)
    EXPECT_THAT(refusal_of(line), HasSubstr(words)) << line;
}

TEST(KeptWire, msgpack_keeps_bytes_and_takes_them) {
  const std::string frame = kept_job(job("\xff\x00", "text/plain"), KeptProtocol::msgpack);
  ASSERT_GT(frame.size(), 4U);
  EXPECT_EQ(static_cast<unsigned char>(frame[3]), frame.size() - 4);
  const json map = json::from_msgpack(frame.substr(4));
  EXPECT_EQ(map["payload"], json::binary({0xff}));
  EXPECT_EQ(map["id"], "a");
  const auto take = [](const json& message) {
    const auto bytes = json::to_msgpack(message);
    return read_kept({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                     kId,
                     kFence,
                     KeptProtocol::msgpack);
  };
  EXPECT_EQ(std::get<AttemptResult>(*take({{"result", json::binary({0xff, 0})}})).result,
            std::string("\xff\x00", 2));
  EXPECT_EQ(std::get<AttemptResult>(*take({{"result", 5}})).result, "\x05");
  EXPECT_EQ(std::get<AttemptProgress>(*take({{"progress", 5}, {"checkpoint", json::binary({1})}}))
                .checkpoint,
            "\x01");
  const auto no_number = take({{"progress", std::numeric_limits<double>::quiet_NaN()}});
  ASSERT_FALSE(no_number);
  EXPECT_THAT(no_number.error().detail, HasSubstr("from 0 to 100"));
  EXPECT_FALSE(read_kept("\xc1", kId, kFence, KeptProtocol::msgpack));
}

// ---------------------------------------------------------------- the stream

class KeptStream : public testing::Test {
 protected:
  KeptStream() {
    if (::pipe(ends_.data()) != 0) std::abort();
  }

  ~KeptStream() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  void write(std::string_view bytes) {
    ASSERT_EQ(::write(ends_[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  std::vector<std::string> messages(KeptReader& reader) {
    EXPECT_EQ(reader.fill(ends_[0]), PoolWire::Fill::some);
    std::vector<std::string> all;
    while (true) {
      const auto next = reader.next();
      EXPECT_TRUE(next);
      if (!next || !*next) return all;
      all.emplace_back(**next);
    }
  }

  std::array<int, 2> ends_{};
};

TEST_F(KeptStream, lines_come_in_pieces_and_several_at_once) {
  KeptReader reader(KeptProtocol::json);
  write("{\"a\"");
  EXPECT_THAT(messages(reader), testing::IsEmpty());
  write(":1}\r\n\n{}\n[");
  EXPECT_THAT(messages(reader), testing::ElementsAre("{\"a\":1}", "{}"));
  write("]\n");
  EXPECT_THAT(messages(reader), testing::ElementsAre("[]"));
}

TEST_F(KeptStream, frames_come_in_pieces_and_several_at_once) {
  KeptReader reader(KeptProtocol::msgpack);
  write(
      std::string_view("\0\0\0\x02"
                       "a",
                       5));
  EXPECT_THAT(messages(reader), testing::IsEmpty());
  write(std::string_view("b\0\0\0\0\0\0", 7));
  EXPECT_THAT(messages(reader), testing::ElementsAre("ab", ""));
  write(
      std::string_view("\0\x01"
                       "c",
                       3));
  EXPECT_THAT(messages(reader), testing::ElementsAre("c"));
  write("\x7f\xff\xff\xff");
  EXPECT_EQ(reader.fill(ends_[0]), PoolWire::Fill::some);
  const auto next = reader.next();
  ASSERT_FALSE(next);
  EXPECT_THAT(next.error().detail, HasSubstr("more than 8 MiB"));
}

TEST_F(KeptStream, a_line_without_end_is_refused_at_the_bound) {
  KeptReader reader(KeptProtocol::json);
  const std::string piece(60'000, 'x');
  for (std::size_t size = 0; size <= kMessageBytesMax; size += piece.size()) {
    EXPECT_TRUE(reader.next()) << size;
    write(piece);
    ASSERT_EQ(reader.fill(ends_[0]), PoolWire::Fill::some);
  }
  const auto next = reader.next();
  ASSERT_FALSE(next);
  EXPECT_THAT(next.error().detail, HasSubstr("more than 8 MiB"));
}

}  // namespace
}  // namespace sluice::worker_kept_wire_test
