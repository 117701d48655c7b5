// The pool itself, with a kind of its own; isolates and kept programs have tests of theirs.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/runtime_fixture.h"
#include "worker/runtime/process_pool.h"
#include "worker/runtime/process_result.h"

namespace sluice::worker_process_pool_test {
namespace {

using namespace sluice;

// How often a process was asked for a word, and how many it had.
struct Said {
  int asked = 0;
  int left = 50'000;  // more than a socket holds of the smallest
};

// A line to a process that lives until it is killed, and has said a lot by then.
class TalkingWire : public PoolWire {
 public:
  TalkingWire(UniqueFd stream, UniqueFd errors, Said& said)
      : PoolWire(std::move(errors)), stream_(std::move(stream)), said_(said) {}

  [[nodiscard]] int fd() const override { return stream_.get(); }

  [[nodiscard]] std::string give(RunJob& job, std::uint32_t) override {
    id_ = job.id;
    fence_ = job.fence;
    return "job";
  }

  [[nodiscard]] std::string stop(std::uint32_t) override { return {}; }

  [[nodiscard]] Fill fill() override { return said_.left > 0 ? Fill::some : Fill::end; }

  [[nodiscard]] Result<std::optional<PoolWord>> next() override {
    ++said_.asked;
    if (said_.left == 0) return std::nullopt;
    --said_.left;
    return AttemptProgress{id_, fence_, 1, {}, {}};
  }

 private:
  UniqueFd stream_;
  Said& said_;
  JobId id_;
  Fence fence_;
};

class TalkingKind : public PoolKind {
 public:
  explicit TalkingKind(Said& said) : said_(said) {}

  [[nodiscard]] tl::expected<std::unique_ptr<PoolWire>, int> start(SpawnerChannel& spawner,
                                                                   std::uint64_t number) override {
    std::array<int, 2> stream{-1, -1};
    std::array<int, 2> errors{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream.data()) != 0 ||
        ::pipe2(errors.data(), O_CLOEXEC) != 0)
      return tl::unexpected(errno);
    const UniqueFd far_stream(stream[1]);
    const UniqueFd far_errors(errors[1]);
    const int error = spawner.spawn({.id = number,
                                     .argv = {"/bin/sleep", "600"},
                                     .environment = {},
                                     .cwd = {},
                                     .stdin_fd = far_stream.get(),
                                     .stdout_fd = far_stream.get(),
                                     .stderr_fd = far_errors.get()});
    if (error != 0) return tl::unexpected(error);
    return std::make_unique<TalkingWire>(UniqueFd(stream[0]), UniqueFd(errors[0]), said_);
  }

  [[nodiscard]] AttemptResult judge_end(const RunJob& job, const PoolEnd&) const override {
    return failed_attempt(job, "ended", "by itself", true);
  }

 private:
  Said& said_;
};

class TalkingBuilder : public RuntimeBuilder {
 public:
  explicit TalkingBuilder(Said& said) : said_(said) {}

  [[nodiscard]] Result<void> add(TaskSettings& settings) override {
    const auto pool = take_pool_settings(settings, "processes");
    if (!pool) return tl::unexpected(pool.error());
    settings_ = *pool;
    return {};
  }

  void prepare(const std::string& node, Spawner& spawner) override {
    node_ = node;
    spawner_ = &spawner.open_channel();
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() override {
    std::map<std::string, PoolSetup, std::less<>> pools;
    pools.emplace("t", PoolSetup{settings_, std::make_unique<TalkingKind>(said_)});
    return make_pool_runtime(std::move(pools), *spawner_, node_);
  }

 private:
  Said& said_;
  PoolSettings settings_;
  SpawnerChannel* spawner_ = nullptr;
  std::string node_;
};

class ProcessPool : public RuntimeFixture {
 protected:
  Said said_;
  TalkingBuilder builder_{said_};
};

// A node that hears one process out hears nobody else: neither its broker nor the clock.
TEST_F(ProcessPool, one_that_talks_is_heard_a_little_at_a_time_and_when_it_is_gone_to_the_end) {
  build(builder_, {{"grace", std::int64_t{1}}});
  start("a");
  stop("a", StopReason::cancel);
  AttemptResult ended;
  while (ended.id != JobId("a")) {
    said_.asked = 0;
    turn();
    EXPECT_LE(said_.asked, 200);
    for (const RuntimeEvent& event : std::exchange(events_, {}))
      if (const auto* done = std::get_if<AttemptDone>(&event)) ended = done->result;
  }
  EXPECT_EQ(ended.outcome, Outcome::cancelled);
  EXPECT_EQ(said_.left, 0);
}

// As when it handed its stream to a process of somebody else's.
TEST_F(ProcessPool, what_goes_on_after_its_end_is_not_heard_for_ever) {
  said_.left = 2'000'000'000;
  build(builder_, {{"grace", std::int64_t{1}}});
  start("a");
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
  EXPECT_GT(said_.left, 0);
}

TEST_F(ProcessPool, when_the_spawner_dies_nobody_is_heard_out) {
  build(builder_, {});
  start("a");
  ASSERT_EQ(::kill(spawner_.pid(), SIGKILL), 0);
  AttemptResult ended;
  while (ended.id != JobId("a")) {
    said_.asked = 0;
    turn();
    EXPECT_LE(said_.asked, 200);
    for (const RuntimeEvent& event : std::exchange(events_, {}))
      if (const auto* done = std::get_if<AttemptDone>(&event)) ended = done->result;
  }
  EXPECT_EQ(ended.outcome, Outcome::handed_back);
}

}  // namespace
}  // namespace sluice::worker_process_pool_test
