#include "worker/runtime/isolate_runtime.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "common/protocol/codec.h"
#include "worker/runtime/isolate_process.h"
#include "worker/runtime/isolate_wire.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/program_settings.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

class IsolateWire : public PoolWire {
 public:
  IsolateWire(UniqueFd jobs, UniqueFd notes, UniqueFd output)
      : PoolWire(std::move(output)), jobs_(std::move(jobs)), notes_(std::move(notes)) {}

  [[nodiscard]] int fd() const override { return jobs_.get(); }

  [[nodiscard]] std::string give(RunJob& job, std::uint32_t number) override {
    BrokerMessage message{{job.fence.epoch, number}, Run{}};
    std::vector<RunJob>& jobs = std::get<Run>(message.body).jobs;
    jobs.push_back(std::move(job));
    std::string frame = isolate_frame(encode_broker_message(message));
    job = std::move(jobs.front());
    return frame;
  }

  [[nodiscard]] std::string stop(std::uint32_t number) override {
    say({.run_number = number});
    return {};
  }

  void answer(std::uint32_t number, const CheckpointAnswer& answer) override {
    say({number, answer.awaited_n, answer.is_recorded ? 1U : 0U});
  }

  [[nodiscard]] Fill fill() override {
    switch (reader_.fill(jobs_.get())) {
      case FrameReader::Fill::some:
        return Fill::some;
      case FrameReader::Fill::none:
        return Fill::none;
      default:
        return Fill::end;
    }
  }

  [[nodiscard]] Result<std::optional<PoolWord>> next() override {
    const auto message = reader_.next();
    if (!message && !reader_.is_broken()) return std::nullopt;
    if (!message) return fail(ErrorCode::malformed, "", "a frame of a length that none has");
    auto read = decode_worker_message(*message);
    if (!read) return tl::unexpected(read.error());
    if (auto* progress = std::get_if<Progress>(&*read))
      return AttemptProgress{std::move(progress->id),
                             progress->fence,
                             progress->percent,
                             std::move(progress->message),
                             std::move(progress->checkpoint),
                             progress->checkpoint_n};
    if (auto* log = std::get_if<Log>(&*read))
      return AttemptLog{std::move(log->id), log->fence, std::move(log->bytes)};
    auto* results = std::get_if<Results>(&*read);
    if (results == nullptr || results->results.size() != 1)
      return fail(ErrorCode::malformed, "", "neither progress, nor a log, nor one result");
    return std::move(results->results.front());
  }

 private:
  void say(const IsolateNote& note) const {
    (void)::send(notes_.get(), &note, sizeof note, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  UniqueFd jobs_;
  UniqueFd notes_;
  FrameReader reader_;
};

class IsolateKind : public PoolKind {
 public:
  IsolateKind(std::string handler, const ProgramLimits& limits)
      : handler_(std::move(handler)), limits_(limits) {}

  [[nodiscard]] tl::expected<std::unique_ptr<PoolWire>, int> start(SpawnerChannel& spawner,
                                                                   std::uint64_t number) override {
    std::array<int, 2> jobs{-1, -1};
    std::array<int, 2> notes{-1, -1};
    std::array<int, 2> output{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, jobs.data()) != 0)
      return tl::unexpected(errno);
    const UniqueFd far_jobs(jobs[1]);
    UniqueFd near_jobs(jobs[0]);
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, notes.data()) != 0)
      return tl::unexpected(errno);
    const UniqueFd far_notes(notes[1]);
    UniqueFd near_notes(notes[0]);
    if (::pipe2(output.data(), O_CLOEXEC) != 0) return tl::unexpected(errno);
    UniqueFd near_output(output[0]);
    const UniqueFd far_output(output[1]);
    for (const UniqueFd* near : {&near_jobs, &near_notes})
      ::fcntl(near->get(), F_SETFL, O_NONBLOCK);
    const int error = spawner.isolate(
        number,
        handler_,
        limits_,
        {.jobs = far_jobs.get(), .notes = far_notes.get(), .output = far_output.get()});
    if (error != 0) return tl::unexpected(error);
    return std::make_unique<IsolateWire>(std::move(near_jobs),
                                         std::move(near_notes),
                                         std::move(near_output));
  }

  [[nodiscard]] AttemptResult judge_end(const RunJob& job, const PoolEnd& end) const override {
    if (end.report.exec_errno != 0) return cannot_start(job, end.report.exec_errno);
    const Reason why = reason_of(end);
    return failed_attempt(job, why.code, with_tail(why.text, end.error_tail), true);
  }

 private:
  struct Reason {
    std::string code;
    std::string text;
  };

  [[nodiscard]] Reason reason_of(const PoolEnd& end) const {
    if (!end.spoiled.empty())
      return {"isolate_broken", "isolate killed: its handler closed or spoiled its socket"};
    if (end.report.is_out_of_memory != 0)
      return {"memory_limit", "isolate " + out_of_memory(limits_)};
    const int status = end.report.wait_status;
    if (!WIFSIGNALED(status))
      return {"isolate_crashed", "isolate exited with code " + std::to_string(WEXITSTATUS(status))};
    const int signal = WTERMSIG(status);
    if (signal == SIGXCPU && limits_.cpu_s != 0)
      return {"cpu_limit",
              "isolate killed: its job used all its " + std::to_string(limits_.cpu_s) +
                  " s of CPU time"};
    return {"isolate_crashed",
            "isolate crashed: " + signal_name(signal) +
                (signal == SIGKILL ? ", from outside or for want of memory" : "")};
  }

  std::string handler_;
  ProgramLimits limits_;
};

Result<void> take_wear(TaskSettings& settings, PoolSettings& pool) {
  const auto reuse = settings.take_bool("reuse");
  if (!reuse) return tl::unexpected(reuse.error());
  const bool is_fresh = *reuse && !**reuse;
  if (is_fresh && pool.jobs_max != 0)
    return tl::unexpected(settings.error("recycle_after", "says nothing with reuse = false"));
  if (is_fresh) pool.jobs_max = 1;
  const auto memory = settings.take_bytes("recycle_memory");
  if (!memory) return tl::unexpected(memory.error());
  pool.memory_max_bytes = memory->value_or(0);
  return {};
}

}  // namespace

Result<void> IsolateRuntimeBuilder::add(TaskSettings& settings) {
  auto handler = take_handler(settings, handlers_);
  if (!handler) return tl::unexpected(handler.error());
  auto pool = take_pool_settings(settings, "isolates");
  if (!pool) return tl::unexpected(pool.error());
  if (auto taken = take_wear(settings, *pool); !taken) return taken;
  const auto limits = take_handler_limits(settings);
  if (!limits) return tl::unexpected(limits.error());
  tasks_[settings.task()] = {std::move(*handler), *pool, *limits};
  return {};
}

DescriptorNeed IsolateRuntimeBuilder::descriptors(std::uint32_t concurrency) const {
  constexpr std::uint64_t kOfOne = 3;  // jobs, notes, output
  DescriptorNeed need;
  for (const auto& [task, settings] : tasks_)
    need.standing += kOfOne * settings.pool.most(concurrency);
  return need;
}

// The spawner's copy of the handlers and of the node's id is what its isolates have: all of them,
// for a task table that is read later may name others.
void IsolateRuntimeBuilder::teach(const std::string& node, Spawner& spawner) {
  spawner.set_isolate_main(
      [handlers = handlers_,
       node](int jobs_fd, int notes_fd, const std::string& handler, const ProgramLimits& limits) {
        run_isolate(jobs_fd, notes_fd, handlers.at(handler), node, limits.cpu_s);
      });
}

void IsolateRuntimeBuilder::prepare(const std::string& node, Spawner& spawner) {
  node_ = node;
  spawner_ = &spawner.open_channel();
}

std::unique_ptr<Runtime> IsolateRuntimeBuilder::build() {
  std::map<std::string, PoolSetup, std::less<>> pools;
  for (const auto& [task, settings] : tasks_)
    pools.emplace(
        task,
        PoolSetup{settings.pool, std::make_unique<IsolateKind>(settings.handler, settings.limits)});
  return make_pool_runtime(std::move(pools), *spawner_, node_);
}

}  // namespace sluice
