#include <array>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/ids.h"

namespace sluice::common_ids_test {
namespace {

TEST(Ids, a_job_id_is_1_to_64_of_its_letters) {
  EXPECT_TRUE(is_job_id("AZaz09_.:-"));
  EXPECT_TRUE(is_job_id(std::string(64, 'x')));
  EXPECT_FALSE(is_job_id(""));
  EXPECT_FALSE(is_job_id(std::string(65, 'x')));
}

TEST(Ids, every_other_character_is_refused) {
  const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  for (int c = 0; c < 256; ++c) {
    const std::string text(1, static_cast<char>(c));
    const bool is_letter = letters.find(text) != std::string::npos;
    EXPECT_EQ(is_name(text), is_letter) << c;
    EXPECT_EQ(is_job_id(text), is_letter || c == ':') << c;
  }
}

TEST(Ids, a_node_id_is_a_name_and_a_life) {
  EXPECT_TRUE(is_node_id("n1@9f2c41aa"));
  for (const char* wrong : {"", "n1", "@", "n1@", "@9f", "n1@9f@2c", "n:1@9f", "n1@9f 2c"})
    EXPECT_FALSE(is_node_id(wrong)) << wrong;
  EXPECT_TRUE(is_node_id(std::string(64, 'n') + "@" + std::string(31, 'l')));
  EXPECT_FALSE(is_node_id(std::string(64, 'n') + "@" + std::string(32, 'l')));  // 97 bytes
  EXPECT_FALSE(is_node_id(std::string(65, 'n') + "@l"));
}

TEST(Ids, job_ids_compare_as_their_text) {
  EXPECT_EQ(JobId("a"), JobId("a"));
  EXPECT_NE(JobId("a"), JobId("ab"));
  EXPECT_LT(JobId("a"), JobId("ab"));
  EXPECT_LT(JobId("ab"), JobId("b"));
  EXPECT_TRUE(JobId().empty());
  EXPECT_EQ(JobId(std::string(64, 'x')).str(), std::string(64, 'x'));
}

TEST(Ids, fences_grow_with_the_epoch_first) {
  EXPECT_LT((Fence{1, 9}), (Fence{2, 1}));
  EXPECT_LT((Fence{2, 1}), (Fence{2, 2}));
  EXPECT_EQ((Fence{12, 3}).str(), "12.3");
}

TEST(Ids, a_uuid_v7_has_its_version_variant_and_time) {
  std::array<std::uint8_t, 10> random{};
  random.fill(0xff);
  // The example of RFC 9562, A.6, has 017F22E2-79B0-7 for this time.
  EXPECT_EQ(make_uuid_v7(0x017f22e279b0, random), "017f22e2-79b0-7fff-bfff-ffffffffffff");
  random.fill(0);
  EXPECT_EQ(make_uuid_v7(0x017f22e279b0, random), "017f22e2-79b0-7000-8000-000000000000");
  EXPECT_LT(make_uuid_v7(1, random), make_uuid_v7(2, random));
  EXPECT_TRUE(is_job_id(make_uuid_v7(0, random)));
}

// Kept in Redis across versions: another value would turn every resend into a conflict.
TEST(Ids, hashes_are_the_same_in_every_version) {
  EXPECT_EQ(hash64(""), 6617280947945061910U);
  EXPECT_EQ(hash64("job-1"), 7112430631652517078U);
  EXPECT_EQ(hash_id("job-1").high, 668630279989395064U);
  EXPECT_EQ(hash_id("job-1").low, 7808472112551560585U);
}

TEST(Ids, hashes_of_many_ids_do_not_meet) {
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 10'000; ++i)
    EXPECT_TRUE(seen.insert(hash_id("job-" + std::to_string(i)).low).second);
}

}  // namespace
}  // namespace sluice::common_ids_test
