// As many calls at once as one node is to hold.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/support/http_job.h"

namespace sluice::worker_http_many_test {
namespace {

using namespace http_job;

class HttpMany : public NoDescriptorLeft {};

// The fixture sees that all descriptors are closed in the end.
TEST_F(HttpMany, five_thousand_calls_are_under_way_at_once) {
  constexpr std::size_t kCalls = 5000;
  if (!can_have_open(kCalls))
    GTEST_SKIP() << "needs 10 100 open files, and the hard limit (ulimit -Hn) is lower";
  HttpServer server([](const std::string&) { return kept_answer("all came"); },
                    kCalls);  // answers nobody before all have asked
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->start(assignment_of(get(server), "job-" + std::to_string(i)));
  const auto results = wait_for(*runtime, kCalls);
  EXPECT_EQ(std::ranges::count(results, Outcome::completed, &AttemptResult::outcome), kCalls);
  EXPECT_EQ(server.connection_count(), kCalls);
  EXPECT_EQ(connections_to(server.port()), 256U);
}

}  // namespace
}  // namespace sluice::worker_http_many_test
