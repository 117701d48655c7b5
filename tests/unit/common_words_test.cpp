#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/protocol/words.h"

namespace sluice::common_words_test {
namespace {

template <typename Enum, typename Parse>
void come_back(const std::vector<std::pair<Enum, std::string>>& words, Parse&& parse) {
  for (const auto& [value, word] : words) {
    EXPECT_EQ(to_string(value), word);
    EXPECT_EQ(parse(word), value) << word;
    for (const std::string& other : {word + " ", word.substr(0, word.size() - 1), "A" + word})
      EXPECT_EQ(parse(other), std::nullopt) << other;
  }
}

// The words stand in logs, in Redis and on the wire: a new spelling is another protocol.
TEST(ProtocolWords, are_those_of_the_specification_and_come_back) {
  come_back<Durability>({{Durability::memory, "memory"},
                         {Durability::everysec, "everysec"},
                         {Durability::always, "always"}},
                        parse_durability);
  come_back<SubmitStatus>({{SubmitStatus::accepted, "accepted"},
                           {SubmitStatus::duplicate, "duplicate"},
                           {SubmitStatus::conflict, "conflict"},
                           {SubmitStatus::rejected, "rejected"}},
                          parse_submit_status);
  come_back<Phase>(
      {{Phase::waiting, "waiting"}, {Phase::running, "running"}, {Phase::finished, "finished"}},
      parse_phase);
}

TEST(ProtocolWords, of_one_enumeration_are_none_of_another) {
  EXPECT_FALSE(parse_durability("accepted"));
  EXPECT_FALSE(parse_submit_status("running"));
  EXPECT_FALSE(parse_phase("memory"));
  for (const char* wrong : {"", "Always", "RUNNING", "0", "1"}) {
    EXPECT_FALSE(parse_durability(wrong)) << wrong;
    EXPECT_FALSE(parse_submit_status(wrong)) << wrong;
    EXPECT_FALSE(parse_phase(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace sluice::common_words_test
