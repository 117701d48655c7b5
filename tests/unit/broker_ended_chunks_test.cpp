#include <gtest/gtest.h>

#include "broker/store/ended_chunks.h"

namespace sluice::broker_ended_chunks_test {
namespace {

std::string records(std::size_t count) {
  return std::string(count * 32, 'r');
}

TEST(EndedChunks, records_go_to_one_chunk_until_it_is_old_or_full) {
  EndedChunks chunks(1'000'000, 0, 7);
  const auto chunk_of = [&](std::size_t count, std::int64_t mono_ms) {
    ProjectRequest request;
    chunks.put(request, records(count), {mono_ms, 0});
    EXPECT_EQ(request.ended_blob.size(), count * 32);
    return request.ended_chunk;
  };
  EXPECT_EQ(chunk_of(3, 1000), 7u);
  EXPECT_EQ(chunk_of(65'533, 1000), 7u);
  EXPECT_EQ(chunk_of(1, 1000), 8u) << "the last one was full";
  EXPECT_EQ(chunk_of(1, 60'999), 8u);
  EXPECT_EQ(chunk_of(1, 61'000), 9u) << "the last one was a minute old";
}

TEST(EndedChunks, nothing_ended_is_nothing_to_append) {
  EndedChunks chunks(10, 0, 0);
  ProjectRequest request;
  chunks.put(request, "", {1000, 0});
  EXPECT_TRUE(request.ended_blob.empty());
  EXPECT_TRUE(chunks.take_drop({1000, 0}).empty());
}

TEST(EndedChunks, whole_chunks_go_when_those_behind_them_are_enough) {
  EndedChunks chunks(10, 0, 0);
  ProjectRequest request;
  chunks.put(request, records(10), {0, 0});
  chunks.put(request, records(9), {60'000, 0});
  EXPECT_TRUE(chunks.take_drop({60'000, 0}).empty()) << "nine are less than ten";
  chunks.put(request, records(1), {60'000, 0});
  EXPECT_EQ(chunks.take_drop({60'000, 0}), (std::vector<std::uint64_t>{0}));
}

TEST(EndedChunks, a_drop_is_told_again_until_it_is_through) {
  EndedChunks chunks(1'000'000, 3, 5);
  ProjectRequest request;
  const std::int64_t old_ms = kEndedKeepMs + 60'000 + 1;
  chunks.put(request, "", {0, 0});
  chunks.put(request, records(1), {old_ms, 0});
  const std::vector<std::uint64_t> expected{3, 4};
  EXPECT_EQ(chunks.take_drop({old_ms, 0}), expected) << "of brokers before us, by age";
  chunks.failed();
  EXPECT_EQ(chunks.take_drop({old_ms, 0}), expected);
  chunks.done();
  EXPECT_TRUE(chunks.take_drop({old_ms, 0}).empty());
}

}  // namespace
}  // namespace sluice::broker_ended_chunks_test
