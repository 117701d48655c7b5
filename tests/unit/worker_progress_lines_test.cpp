#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/progress_lines.h"

namespace sluice::worker_progress_lines_test {
namespace {

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Said {
  ProgressLines lines;
  std::vector<AttemptProgress> all;

  Said& take(std::string_view bytes) {
    if (auto newest = lines.take(bytes, JobId("a"), {7, 3})) all.push_back(std::move(*newest));
    return *this;
  }

  std::vector<std::string> texts() const {
    std::vector<std::string> texts;
    for (const AttemptProgress& progress : all)
      texts.push_back(std::to_string(progress.percent) + " " + progress.message);
    return texts;
  }
};

TEST(ProgressLines, are_a_number_and_a_text_that_may_be_missing) {
  Said said;
  EXPECT_THAT(said.take("0\n").take("50 half way\n").take("100  done \n").texts(),
              ElementsAre("0 ", "50 half way", "100  done "));
  EXPECT_EQ(said.all[0].id, JobId("a"));
  EXPECT_EQ(said.all[0].fence, (Fence{7, 3}));
  EXPECT_EQ(said.lines.complaint(), "");
}

TEST(ProgressLines, come_in_pieces) {
  Said said;
  EXPECT_THAT(said.take("5").take("0 ha").texts(), IsEmpty());
  EXPECT_THAT(said.take("lf\n\n6").take("0\n").texts(), ElementsAre("50 half", "60 "));
}

TEST(ProgressLines, that_come_together_are_the_newest_and_no_checkpoint_is_lost) {
  Said said;
  said.take(
      "{\"progress\":1,\"checkpoint\":\"p1\"}\n{\"progress\":2,\"checkpoint\":\"p2\"}\n3 on\n");
  EXPECT_THAT(said.texts(), ElementsAre("3 on"));
  EXPECT_EQ(said.all[0].checkpoint, "p2");
}

TEST(ProgressLines, may_be_what_a_kept_program_says) {
  Said said;
  said.take(R"({"progress": 12.9, "message": "page 3", "checkpoint": "p3"})"
            "\n");
  EXPECT_THAT(said.texts(), ElementsAre("12 page 3"));
  EXPECT_EQ(said.all[0].checkpoint, "p3");
}

TEST(ProgressLines, that_are_none_are_passed_over_and_the_first_is_complained_of) {
  for (const char* line : {"half way",
                           "-1",
                           "101",
                           "50%",
                           "5000000000000",
                           "{\"progress\": 101}",
                           "{\"result\": 1}",
                           "{\"progress\": 1, \"id\": \"other\"}",
                           "{"}) {
    Said said;
    EXPECT_THAT(said.take(line).take("\n1 next\n").texts(), ElementsAre("1 next")) << line;
    EXPECT_NE(said.lines.complaint(), "") << line;
  }
  Said said;
  said.take("half way\n50%\n");
  EXPECT_THAT(said.lines.complaint(), HasSubstr("neither PERCENT TEXT nor a JSON map: half way"));
  Said alone;
  alone.take("{\"checkpoint\": \"p1\"}\n");
  EXPECT_THAT(alone.lines.complaint(), HasSubstr("\"checkpoint\" goes with \"progress\""));
}

TEST(ProgressLines, longer_than_any_progress_cost_no_memory_and_only_themselves) {
  Said said;
  const std::string piece(64 * 1024, 'x');
  for (int i = 0; i < 64; ++i)
    said.take(piece);
  EXPECT_THAT(said.take("\n1 next\n").texts(), ElementsAre("1 next"));
  EXPECT_THAT(said.lines.complaint(), HasSubstr("longer than any progress"));
}

TEST(ProgressLines, of_the_longest_text_and_checkpoint_are_taken_however_they_are_written) {
  Said said;
  std::string escaped;
  for (std::size_t i = 0; i < kCheckpointBytesMax; ++i)
    escaped += "\\u0041";
  said.take(R"({"progress":1,"checkpoint":")" + escaped + "\"}\n");
  ASSERT_EQ(said.all.size(), 1u);
  EXPECT_EQ(said.all[0].checkpoint, std::string(kCheckpointBytesMax, 'A'));
}

}  // namespace
}  // namespace sluice::worker_progress_lines_test
