// The golden vectors of tests/vectors: what our encoders write, what our decoders take and refuse,
// and that the examples of PROTOCOL.md are among them.
#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "common/protocol/msgpack.h"

#include <nlohmann/json.hpp>

namespace sluice::common_vectors_test {
namespace {

using Json = nlohmann::json;

const std::string kSource = SLUICE_SOURCE_DIR;
constexpr std::array<const char*, 5> kDirections = {"producer_to_broker",
                                                    "broker_to_producer",
                                                    "worker_to_broker",
                                                    "broker_to_worker",
                                                    "broker_to_watcher"};

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string to_hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

struct Vector {
  std::string direction;
  Json json;

  [[nodiscard]] std::string name() const {
    return direction + ' ' + json.at("name").get<std::string>();
  }

  [[nodiscard]] std::string kind() const { return json.at("kind"); }

  [[nodiscard]] std::string hex() const { return json.at("hex"); }

  [[nodiscard]] std::string frame() const { return from_hex(hex()); }
};

std::vector<Vector> all_vectors() {
  std::vector<Vector> vectors;
  for (const char* direction : kDirections) {
    const std::string path = kSource + "/tests/vectors/" + direction + ".json";
    for (const Json& entry : Json::parse(content_of(path)))
      vectors.push_back({direction, entry});
  }
  return vectors;
}

std::vector<Vector> vectors_of(std::string_view kind) {
  std::vector<Vector> vectors = all_vectors();
  std::erase_if(vectors, [&](const Vector& vector) { return vector.kind() != kind; });
  return vectors;
}

// Read by the decoder of its direction and written again.
Result<std::string> there_and_back(const std::string& direction, std::string_view frame) {
  if (direction == "producer_to_broker") {
    const auto request = decode_request(frame);
    if (!request) return tl::unexpected(request.error().error);
    if (const auto* submit = std::get_if<Submit>(&request->body))
      for (const auto& job : submit->jobs)
        if (const auto* rejected = std::get_if<RejectedJob>(&job))
          return tl::unexpected(rejected->error);
    return encode_request(*request);
  }
  if (direction == "broker_to_producer") return decode_reply(frame).map(encode_reply);
  if (direction == "worker_to_broker") {
    std::optional<Error> wrong_entry;
    const auto message = decode_worker_message(frame, &wrong_entry);
    if (wrong_entry) return tl::unexpected(*wrong_entry);
    return message.map(encode_worker_message);
  }
  if (direction == "broker_to_worker")
    return decode_broker_message(frame).map(encode_broker_message);
  return decode_event(frame).map(
      [](const SequencedEvent& event) { return encode_event(event.event, event.sequence); });
}

// One msgpack value as the JSON of a `meaning`.
Json meaning_of(msgpack::Reader& in) {
  switch (in.peek()) {
    case msgpack::Type::nil:
      EXPECT_TRUE(in.nil());
      return nullptr;
    case msgpack::Type::boolean:
      return in.boolean().value();
    case msgpack::Type::integer: {
      if (const auto value = in.unsigned_integer()) return *value;
      return in.integer().value();
    }
    case msgpack::Type::real:
      return in.real().value();
    case msgpack::Type::str:
      return std::string(in.str().value());
    case msgpack::Type::bin:
      return {{"$bin", to_hex(in.bin().value())}};
    case msgpack::Type::array: {
      Json list = Json::array();
      for (std::uint32_t left = in.array().value(); left > 0; --left)
        list.push_back(meaning_of(in));
      return list;
    }
    case msgpack::Type::map: {
      Json map = Json::object();
      for (std::uint32_t left = in.map().value(); left > 0; --left) {
        const std::string key(in.str().value());
        map[key] = meaning_of(in);
      }
      return map;
    }
    default:
      ADD_FAILURE() << "no value at byte " << in.position();
      return nullptr;
  }
}

TEST(Vectors, the_bytes_say_what_the_meaning_says) {
  for (const Vector& vector : all_vectors()) {
    if (vector.kind() == "refused" && vector.json.contains("by_hand")) continue;
    const std::string frame = vector.frame();
    msgpack::Reader in(frame);
    EXPECT_EQ(meaning_of(in), vector.json.at("meaning")) << vector.name();
    EXPECT_TRUE(in.at_end()) << vector.name();
  }
}

TEST(Vectors, what_our_encoders_write_has_exactly_these_bytes) {
  for (const Vector& vector : vectors_of("exact")) {
    const auto back = there_and_back(vector.direction, vector.frame());
    ASSERT_TRUE(back) << vector.name() << ": " << back.error().where << ' ' << back.error().detail;
    EXPECT_EQ(to_hex(*back), vector.hex()) << vector.name();
  }
}

TEST(Vectors, what_others_may_write_means_the_same) {
  const auto exact = vectors_of("exact");
  for (const Vector& vector : vectors_of("accepted")) {
    const auto back = there_and_back(vector.direction, vector.frame());
    ASSERT_TRUE(back) << vector.name() << ": " << back.error().where << ' ' << back.error().detail;
    const auto same = std::find_if(exact.begin(), exact.end(), [&](const Vector& other) {
      return other.direction == vector.direction &&
             other.json.at("name") == vector.json.at("same_as");
    });
    ASSERT_NE(same, exact.end()) << vector.name();
    EXPECT_EQ(to_hex(*back), same->hex()) << vector.name();
  }
}

TEST(Vectors, what_is_wrong_is_refused_with_its_code_and_field) {
  for (const Vector& vector : vectors_of("refused")) {
    const auto back = there_and_back(vector.direction, vector.frame());
    ASSERT_FALSE(back) << vector.name();
    const Json& error = vector.json.at("error");
    EXPECT_EQ(to_string(back.error().code), error.at("code").get<std::string>()) << vector.name();
    EXPECT_EQ(back.error().where, error.at("field").get<std::string>()) << vector.name();
    EXPECT_FALSE(back.error().detail.empty()) << vector.name();
  }
}

TEST(Vectors, the_topic_of_an_event_is_the_one_said) {
  for (const Vector& vector : vectors_of("exact")) {
    if (vector.direction != "broker_to_watcher") continue;
    const auto event = decode_event(vector.frame());
    ASSERT_TRUE(event) << vector.name();
    EXPECT_EQ(event_topic(event->event), vector.json.at("topic").get<std::string>());
  }
}

TEST(Vectors, every_op_of_every_direction_has_one) {
  std::map<std::string, std::set<std::size_t>> seen;
  for (const Vector& vector : vectors_of("exact")) {
    const std::string frame = vector.frame();
    auto& kinds = seen[vector.direction];
    const auto note = [&](const auto& message, auto index_of) {
      if (message) kinds.insert(index_of(*message));
    };
    const auto of_body = [](const auto& message) {
      return message.body.index();
    };
    if (vector.direction == "producer_to_broker") note(decode_request(frame), of_body);
    if (vector.direction == "broker_to_producer") note(decode_reply(frame), of_body);
    if (vector.direction == "broker_to_worker") note(decode_broker_message(frame), of_body);
    if (vector.direction == "worker_to_broker")
      note(decode_worker_message(frame), [](const auto& message) { return message.index(); });
    if (vector.direction == "broker_to_watcher")
      note(decode_event(frame), [](const auto& message) { return message.event.index(); });
  }
  EXPECT_EQ(seen["producer_to_broker"].size(), std::variant_size_v<RequestBody>);
  EXPECT_EQ(seen["broker_to_producer"].size(), std::variant_size_v<ReplyBody>);
  EXPECT_EQ(seen["worker_to_broker"].size(), std::variant_size_v<WorkerMessage>);
  EXPECT_EQ(seen["broker_to_worker"].size(), std::variant_size_v<BrokerBody>);
  EXPECT_EQ(seen["broker_to_watcher"].size(), std::variant_size_v<EventBody>);
}

// An example of PROTOCOL.md is a fenced block `hex`: one vector, in lines, with spaces at will.
TEST(Vectors, every_example_in_the_specification_is_one_of_them) {
  std::set<std::string> known;
  for (const Vector& vector : all_vectors())
    known.insert(vector.hex());
  const std::string text = content_of(kSource + "/common/protocol/PROTOCOL.md");
  const std::regex block("```hex\n([0-9a-f \n]+)```");
  std::size_t count = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), block), end; it != end; ++it, ++count) {
    std::string hex = (*it)[1];
    std::erase_if(hex, [](char c) { return c == ' ' || c == '\n'; });
    EXPECT_TRUE(known.contains(hex)) << hex;
  }
  EXPECT_GE(count, 9U);
}

}  // namespace
}  // namespace sluice::common_vectors_test
