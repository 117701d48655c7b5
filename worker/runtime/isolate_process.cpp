#include "worker/runtime/isolate_process.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/limits.h"
#include "common/protocol/codec.h"
#include "worker/core/bounded.h"
#include "worker/core/text.h"
#include "worker/runtime/descendants.h"
#include "worker/runtime/isolate_wire.h"
#include "worker/runtime/life.h"
#include "worker/runtime/process_meter.h"
#include "worker/runtime/program_limits.h"

namespace sluice {

namespace {

Spent spent_by(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return spent_of(usage);
}

// Quick when there is nothing: one system call.
void end_what_was_left() {
  while (true) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) return;
    if (pid > 0) continue;
    (void)end_descendants();  // which getrusage counts, too
    return;
  }
}

// Printed lines are in the pipe already (become_isolate); the rest is there before the result.
// Quick when there is nothing: no system call.
void flush_output() {
  std::cout.flush();
  std::clog.flush();
  (void)std::fflush(stdout);
}

// Shared with the thread that waits for notes, which may outlive the last job.
class IsolateLoop : public std::enable_shared_from_this<IsolateLoop> {
 public:
  IsolateLoop(int jobs_fd,
              int notes_fd,
              const TaskHandler& handler,
              const std::string& node,
              std::uint64_t cpu_s)
      : jobs_fd_(jobs_fd), notes_fd_(notes_fd), handler_(handler), node_(node), cpu_(cpu_s) {}

  void run() {
    std::thread([self = shared_from_this()] { self->watch_notes(); }).detach();
    while (true) {
      while (const auto message = reader_.next())
        if (!take(*message)) return;
      if (reader_.is_broken() || reader_.fill(jobs_fd_) != FrameReader::Fill::some) return;
    }
  }

 private:
  struct Attempt : Task::State {
    Attempt(IsolateLoop& isolate, RunJob run_job, std::int64_t deadline)
        : State(std::move(run_job), deadline), owner(isolate) {}

    void tell(AttemptProgress progress) override { owner.send(std::move(progress)); }

    void write_log(std::string_view bytes) override { owner.send_log(job, bytes); }

    IsolateLoop& owner;
  };

  bool take(std::string_view message) {
    auto read = decode_broker_message(message);
    Run* run = read ? std::get_if<Run>(&read->body) : nullptr;
    if (run == nullptr || run->jobs.size() != 1) return false;
    RunJob& job = run->jobs.front();
    const std::int64_t deadline =
        job.timeout_ms > 0 ? after(clock_now().mono_ms, job.timeout_ms) : kNever;
    const auto attempt = std::make_shared<Attempt>(*this, std::move(job), deadline);
    cpu_.begin();
    peak_.begin();
    begin(read->number.n, attempt);
    const AttemptResult result = call(attempt);
    end();
    cpu_.end();
    return send(encode_worker_message(Results{node_, {result}}));
  }

  AttemptResult call(const std::shared_ptr<Attempt>& attempt) {
    Task task(attempt);
    AttemptResult result =
        bounded(to_result(attempt->job, call_handler(handler_, task)), kResultBytesMax);
    flush_output();
    end_what_was_left();
    result.usage = lap();
    return result;
  }

  // Whole milliseconds of all so far, less those of before: what short jobs use is not lost, it is
  // told by one of them.
  Usage lap() {
    const Spent self = spent_by(RUSAGE_SELF);
    const std::int64_t cpu_ms = (self.cpu_us + spent_by(RUSAGE_CHILDREN).cpu_us) / 1000;
    return {cpu_ms - std::exchange(told_cpu_ms_, cpu_ms), self.rss_bytes_max};
  }

  void begin(std::uint64_t number, std::shared_ptr<Attempt> attempt) {
    const std::lock_guard lock(current_mutex_);
    number_ = number;
    current_ = std::move(attempt);
    if (stopped_ == number) current_->ask_to_stop();
  }

  void end() {
    const std::lock_guard lock(current_mutex_);
    current_.reset();
  }

  void send(AttemptProgress progress) {
    Progress message;
    message.node = node_;
    message.id = std::move(progress.id);
    message.fence = progress.fence;
    message.percent = std::min(progress.percent, kPercentMax);
    message.message = clean_text(progress.message, kProgressTextBytesMax);
    message.checkpoint = std::move(progress.checkpoint);
    message.checkpoint_n = progress.awaited_n;
    (void)send(encode_worker_message(message));
  }

  // The node sends on what it can; to it, all is said.
  void send_log(const RunJob& job, std::string_view bytes) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), kLogChunkBytesMax)))
      (void)send(encode_worker_message(
          Log{node_, job.id, job.fence, std::string(bytes.substr(0, kLogChunkBytesMax))}));
  }

  // False when the node is gone. What a handler forked has this socket, and no say.
  bool send(std::string_view message) {
    if (::getpid() != self_) return true;
    const std::string frame = isolate_frame(message);
    const std::lock_guard lock(send_mutex_);
    for (std::size_t at = 0; at < frame.size();) {
      const ssize_t size = ::send(jobs_fd_, frame.data() + at, frame.size() - at, MSG_NOSIGNAL);
      if (size < 0 && errno != EINTR) return false;
      if (size > 0) at += static_cast<std::size_t>(size);
    }
    return true;
  }

  void watch_notes() {
    IsolateNote note;
    while (true) {
      const ssize_t size = ::read(notes_fd_, &note, sizeof note);
      if (size < 0 && errno == EINTR) continue;
      if (size != sizeof note) return;
      const bool is_stop = note.awaited_n == 0;
      std::shared_ptr<Attempt> meant;
      {
        const std::lock_guard lock(current_mutex_);
        if (is_stop) stopped_ = note.run_number;
        if (number_ == note.run_number) meant = current_;
      }
      if (!meant) continue;
      if (is_stop)
        meant->ask_to_stop();  // calls what the handler registered
      else
        meant->answer(note.awaited_n, note.is_recorded != 0);
    }
  }

  const pid_t self_ = ::getpid();
  const int jobs_fd_;
  const int notes_fd_;
  const TaskHandler& handler_;
  const std::string node_;
  CpuTimer cpu_;
  PeakMemory peak_;
  FrameReader reader_;
  std::int64_t told_cpu_ms_ = 0;
  std::mutex send_mutex_;     // a frame is written whole
  std::mutex current_mutex_;  // guards all below
  std::uint64_t number_ = 0;
  std::uint64_t stopped_ = 0;  // the newest stop
  std::shared_ptr<Attempt> current_;
};

}  // namespace

void run_isolate(int jobs_fd,
                 int notes_fd,
                 const TaskHandler& handler,
                 const std::string& node,
                 std::uint64_t cpu_s) {
  mark_process(node);
  std::make_shared<IsolateLoop>(jobs_fd, notes_fd, handler, node, cpu_s)->run();
}

}  // namespace sluice
