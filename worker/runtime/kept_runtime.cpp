#include "worker/runtime/kept_runtime.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "worker/runtime/kept_orphans.h"
#include "worker/runtime/process_meter.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

class KeptWire : public PoolWire {
 public:
  KeptWire(KeptProtocol protocol, UniqueFd stream, UniqueFd errors)
      : PoolWire(std::move(errors)),
        protocol_(protocol),
        stream_(std::move(stream)),
        reader_(protocol) {}

  [[nodiscard]] int fd() const override { return stream_.get(); }

  void started(pid_t pid) override {
    meter_.attach(pid);
    orphans_.attach(pid);
  }

  [[nodiscard]] std::string give(RunJob& job, std::uint32_t) override {
    id_ = job.id;
    fence_ = job.fence;
    meter_.begin();
    return kept_job(job, protocol_);
  }

  [[nodiscard]] std::string stop(std::uint32_t) override { return kept_stop(id_, protocol_); }

  [[nodiscard]] Fill fill() override { return reader_.fill(stream_.get()); }

  [[nodiscard]] Result<std::optional<PoolWord>> next() override {
    if (ended_) return PoolWord(*std::exchange(ended_, std::nullopt));
    const auto message = reader_.next();
    if (!message) return tl::unexpected(message.error());
    if (!*message) return std::nullopt;
    auto word = read_kept(**message, id_, fence_, protocol_);
    if (!word) return tl::unexpected(word.error());
    auto* result = std::get_if<AttemptResult>(&*word);
    if (result == nullptr) return std::move(*word);
    result->usage = meter_.lap();
    std::string left = orphans_.take_new();
    if (left.empty()) return std::move(*word);
    ended_ = std::move(*result);
    return PoolWord(AttemptLog{id_, fence_, std::move(left)});
  }

 private:
  KeptProtocol protocol_;
  UniqueFd stream_;
  KeptReader reader_;
  ProcessMeter meter_;
  KeptOrphans orphans_;
  std::optional<AttemptResult> ended_;  // to be told after what the job left behind
  JobId id_;                            // its job's, or the last one's
  Fence fence_;
};

class KeptKind : public PoolKind {
 public:
  KeptKind(std::string task, KeptTask settings, std::string node)
      : task_(std::move(task)), settings_(std::move(settings)), node_(std::move(node)) {}

  // One socket is both its standard input and output: a pipe less to watch for each.
  [[nodiscard]] tl::expected<std::unique_ptr<PoolWire>, int> start(SpawnerChannel& spawner,
                                                                   std::uint64_t number) override {
    std::array<int, 2> stream{-1, -1};
    std::array<int, 2> errors{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream.data()) != 0)
      return tl::unexpected(errno);
    UniqueFd near_stream(stream[0]);
    const UniqueFd far_stream(stream[1]);
    if (::pipe2(errors.data(), O_CLOEXEC) != 0) return tl::unexpected(errno);
    UniqueFd near_errors(errors[0]);
    const UniqueFd far_errors(errors[1]);
    ::fcntl(near_stream.get(), F_SETFL, O_NONBLOCK);
    const SpawnRequest request{.id = number,
                               .argv = settings_.program.argv,
                               .environment = environment_of(settings_.program, node_, task_),
                               .cwd = settings_.program.cwd,
                               .user = settings_.program.user,
                               .limits = settings_.program.limits,
                               .stdin_fd = far_stream.get(),
                               .stdout_fd = far_stream.get(),
                               .stderr_fd = far_errors.get(),
                               .tells_start = true};
    const int error = spawner.spawn(request);
    if (error != 0) return tl::unexpected(error);
    return std::make_unique<KeptWire>(settings_.protocol,
                                      std::move(near_stream),
                                      std::move(near_errors));
  }

  [[nodiscard]] AttemptResult judge_end(const RunJob& job, const PoolEnd& end) const override {
    const SpawnReport& report = end.report;
    if (report.exec_errno != 0) return never_ran(job, settings_.program, report);
    if (!end.spoiled.empty())
      return failed_attempt(job,
                            "program_broken",
                            with_tail("the program was killed: " + end.spoiled, end.error_tail),
                            true);
    if (report.is_keeper_lost != 0)
      return failed_attempt(job, "keeper_lost", "its keeper process was killed from outside", true);
    return failed_by_exit(job,
                          settings_.program.limits,
                          report,
                          " before it told the job's end",
                          end.error_tail);
  }

 private:
  std::string task_;
  KeptTask settings_;
  std::string node_;
};

}  // namespace

Result<void> KeptRuntimeBuilder::add(TaskSettings& settings) {
  KeptTask task;
  auto program = take_program(settings);
  if (!program) return tl::unexpected(program.error());
  task.program = std::move(*program);
  const auto protocol = settings.take_text("protocol");
  if (!protocol) return tl::unexpected(protocol.error());
  if (*protocol && **protocol != "json" && **protocol != "msgpack")
    return tl::unexpected(settings.error("protocol", "must be \"json\" or \"msgpack\""));
  if (protocol->value_or("json") == "msgpack") task.protocol = KeptProtocol::msgpack;
  auto pool = take_pool_settings(settings, "processes");
  if (!pool) return tl::unexpected(pool.error());
  task.pool = *pool;
  tasks_[settings.task()] = std::move(task);
  return {};
}

DescriptorNeed KeptRuntimeBuilder::descriptors(std::uint32_t concurrency) const {
  constexpr std::uint64_t kOfOne = 7;  // stream, errors, keeper, and four of /proc
  DescriptorNeed need;
  for (const auto& [task, settings] : tasks_)
    need.standing += kOfOne * settings.pool.most(concurrency);
  return need;
}

void KeptRuntimeBuilder::prepare(const std::string& node, Spawner& spawner) {
  node_ = node;
  spawner_ = &spawner.open_channel();
}

std::unique_ptr<Runtime> KeptRuntimeBuilder::build() {
  std::map<std::string, PoolSetup, std::less<>> pools;
  for (const auto& [task, settings] : tasks_)
    pools.emplace(task,
                  PoolSetup{settings.pool, std::make_unique<KeptKind>(task, settings, node_)});
  return make_pool_runtime(std::move(pools), *spawner_, node_);
}

}  // namespace sluice
