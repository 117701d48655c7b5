#include "worker/runtime/node.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>

#include <zmq.hpp>

#include "common/clock.h"
#include "common/process.h"
#include "worker/core/worker_core.h"
#include "worker/runtime/broker_link.h"
#include "worker/runtime/health.h"
#include "worker/runtime/life.h"
#include "worker/runtime/log_line.h"

namespace sluice {

namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names)
    all += (all.empty() ? "" : ",") + name;
  return all;
}

// As nohup leaves it.
bool is_hangup_ignored() {
  struct sigaction now {};

  return ::sigaction(SIGHUP, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

bool has_terminal() {
  const int fd = ::open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

// A task table and what came of it. Attempts end in the one that they began in.
struct Generation {
  explicit Generation(std::unique_ptr<TaskTable> table)
      : tasks(std::move(table)), built(tasks->build()) {}

  std::unique_ptr<TaskTable> tasks;
  TaskTable::Built built;
  std::size_t running = 0;  // attempts
};

// Says so when there are too few descriptors for all that these tasks may take.
void check_descriptors(const TaskTable& tasks) {
  constexpr std::uint64_t kOfNode = 64;
  const std::uint64_t limit = raise_descriptor_limit();
  const std::uint64_t wanted = kOfNode + tasks.descriptors();
  if (limit == 0 || limit >= wanted) return;
  log::warn(
      "few_descriptors",
      {{"limit", limit},
       {"wanted", wanted},
       {"reason", "jobs that find none are handed back: raise `ulimit -n`, or lower concurrency"}});
}

class NodeLoop {
 public:
  NodeLoop(const NodeOptions& options,
           WorkerSettings settings,
           std::unique_ptr<TaskTable> tasks,
           ReadTasks read_again)
      : core_(std::move(settings)),
        read_again_(std::move(read_again)),
        link_(options.broker, options.concurrency),
        health_(health_place(options.name, options.state_dir)),
        broker_(options.broker) {
    generations_.emplace_back(std::move(tasks));
  }

  NodeExit run() {
    while (true) {
      wait();
      const Now now = clock_now();
      gather(now);
      for (WorkerEvent& event : std::exchange(events_, {}))
        core_.handle(std::move(event), now, out_);
      core_.settle(now, out_);
      carry_out();
      if (generations_.size() > 1) end_old_generations();
      if (is_health_asked_) tell_health();
      if (out_.exit != ExitWish::none) return leave();
      out_.clear();
    }
  }

 private:
  void wait() {
    items_.clear();
    link_.add_poll_items(items_);
    items_.push_back({nullptr, signals_.fd(), ZMQ_POLLIN, 0});
    const std::size_t health_item = items_.size();
    if (health_.fd() >= 0) items_.push_back({nullptr, health_.fd(), ZMQ_POLLIN, 0});
    std::int64_t deadline = std::min(core_.next_deadline_mono_ms(), link_.next_deadline_mono_ms());
    for (const Generation& generation : generations_)
      for (const auto& runtime : generation.built.runtimes) {
        items_.push_back({nullptr, runtime->fd(), ZMQ_POLLIN, 0});
        deadline = std::min(deadline, runtime->next_deadline_mono_ms());
      }
    std::int64_t timeout_ms = -1;
    if (!events_.empty())
      timeout_ms = 0;
    else if (deadline != kNever)
      timeout_ms = std::clamp<std::int64_t>(deadline - clock_now().mono_ms, 0, INT_MAX);
    try {
      zmq::poll(items_, std::chrono::milliseconds(timeout_ms));
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
    }
    is_health_asked_ = health_.fd() >= 0 && items_[health_item].revents != 0;
  }

  void gather(Now now) {
    link_.read(now, events_);
    const StopSignals::Taken taken = signals_.take();
    const bool has_lost_terminal = taken.hangups > 0 && had_terminal_ && !has_terminal();
    if (taken.hangups > 0 && !has_lost_terminal) read_tasks_again();
    for (int count = taken.stops + (has_lost_terminal ? 1 : 0); count > 0; --count) {
      if (std::exchange(is_asked_, true))
        events_.emplace_back(LeaveRequested{});
      else
        events_.emplace_back(StopRequested{});
    }
    happened_.clear();
    for (const Generation& generation : generations_)
      for (const auto& runtime : generation.built.runtimes)
        runtime->poll(now, happened_);
    for (RuntimeEvent& event : happened_)
      std::visit([this](auto& what) { take(what); }, event);
  }

  void read_tasks_again() {
    const auto refuse = [](const std::string& where, const std::string& detail) {
      log_line(
          LogLevel::error,
          "tasks_not_read",
          {{"where", where},
           {"detail", detail},
           {"what_next", "the tasks are offered as before; mend that, and send SIGHUP again"}});
    };
    std::vector<std::string> names;
    try {
      auto read = read_again_(*generations_.back().tasks);
      if (!read) return refuse(read.error().where, read.error().detail);
      names = (*read)->tasks();
      check_descriptors(**read);
      (*read)->prepare(core_.settings().node);
      generations_.emplace_back(std::move(*read));
    } catch (const std::exception& error) {
      return refuse("", error.what());
    }
    log_line(LogLevel::info, "tasks_read", {{"tasks", joined(names)}});
    events_.emplace_back(TasksChanged{names});
  }

  // Those in which nothing runs any more.
  void end_old_generations() {
    const Generation* newest = &generations_.back();
    std::erase_if(generations_, [&](const Generation& generation) {
      if (&generation == newest || generation.running > 0) return false;
      for (const auto& runtime : generation.built.runtimes)
        runtime->end_idle();
      return true;
    });
  }

  void take(AttemptDone& done) {
    const auto it = running_.find({done.result.id, done.result.fence});
    if (it != running_.end()) {
      --it->second.generation->running;
      running_.erase(it);
    }
    events_.emplace_back(std::move(done));
  }

  void take(AttemptProgress& progress) { events_.emplace_back(std::move(progress)); }

  void take(AttemptLog& log) { events_.emplace_back(std::move(log)); }

  void take(RuntimeFailed& failed) {
    log_line(LogLevel::error, "runtime_failed", {{"detail", failed.detail}});
    is_broken_ = true;
    events_.emplace_back(RuntimeBroken{std::move(failed.detail)});
  }

  void carry_out() {
    for (const AttemptStop& stop : out_.stops) {
      const auto it = running_.find(stop.key);
      if (it != running_.end()) it->second.runtime->stop(stop.key.id, stop.key.fence, stop.reason);
    }
    for (Assignment& assignment : out_.starts)
      start(std::move(assignment));
    for (const CheckpointAnswer& answer : out_.answers) {
      const auto it = running_.find(answer.key);
      if (it != running_.end()) it->second.runtime->answer(answer);
    }
    for (const WorkerFact& fact : out_.facts)
      log_fact(fact);
    if (out_.exit == ExitWish::at_once) shut_down_runtimes();  // before anybody hears of it
    for (WorkerMessage& message : out_.sends) {
      if (auto* status = std::get_if<Status>(&message)) add_figures(*status);
      link_.send(message);
    }
  }

  // Of the tasks as they are now.
  void add_figures(Status& status) {
    for (const auto& runtime : generations_.back().built.runtimes)
      std::ranges::move(runtime->figures(), std::back_inserter(status.isolates));
  }

  void start(Assignment assignment) {
    const auto& by_task = generations_.back().built.by_task;
    const auto runtime = by_task.find(assignment.job.task);
    if (runtime != by_task.end()) {
      Generation& generation = generations_.back();
      ++generation.running;
      running_[{assignment.job.id, assignment.job.fence}] = {runtime->second, &generation};
      runtime->second->start(std::move(assignment));
      return;
    }
    AttemptDone done;
    done.result.id = assignment.job.id;
    done.result.fence = assignment.job.fence;
    done.result.outcome = Outcome::failed;
    done.result.error_code = "task_not_offered";
    done.result.error = "this node does not offer the task " + assignment.job.task;
    events_.emplace_back(std::move(done));
  }

  void tell_health() {
    health_.answer({.node = core_.settings().node,
                    .broker = broker_,
                    .is_connected = core_.is_welcomed(),
                    .is_draining = core_.is_draining(),
                    .running = core_.running_count(),
                    .concurrency = core_.settings().concurrency,
                    .unacknowledged = core_.unacknowledged_count()});
  }

  void shut_down_runtimes() {
    for (const Generation& generation : generations_)
      for (const auto& runtime : generation.built.runtimes)
        if (!runtime->shut_down()) is_stuck_ = true;
  }

  NodeExit leave() {
    NodeExit code = out_.unacknowledged_count > 0 ? node_unacknowledged : node_drained;
    if (is_broken_) code = node_broken;
    link_.close();
    shut_down_runtimes();
    if (is_stuck_) {
      log_line(LogLevel::error,
               "handler_stuck",
               {{"what_next", "a handler does not return; the process ends under it"}});
      std::_Exit(code);
    }
    return code;
  }

  const bool had_terminal_ = has_terminal() && !is_hangup_ignored();
  // Before all others: the threads of ZeroMQ and of the pool inherit the blocked signals.
  StopSignals signals_{SIGHUP};
  WorkerCore core_;
  ReadTasks read_again_;
  std::list<Generation> generations_;  // the newest is the last; never empty
  BrokerLink link_;
  HealthSocket health_;
  std::string broker_;

  struct Where {
    Runtime* runtime = nullptr;
    Generation* generation = nullptr;
  };

  std::unordered_map<AttemptKey, Where> running_;
  std::vector<zmq::pollitem_t> items_;
  std::vector<WorkerEvent> events_;
  std::vector<RuntimeEvent> happened_;
  WorkerOutput out_;
  bool is_asked_ = false;   // a first signal came
  bool is_broken_ = false;  // a runtime failed
  bool is_stuck_ = false;
  bool is_health_asked_ = false;
};

}  // namespace

NodeOptions with_defaults(NodeOptions options) {
  if (options.name.empty()) options.name = host_name();
  if (options.concurrency == 0) options.concurrency = cpu_count();
  return options;
}

NodeExit run_node(NodeOptions options, std::unique_ptr<TaskTable> tasks, ReadTasks read_again) {
  ::signal(SIGPIPE, SIG_IGN);
  options = with_defaults(std::move(options));
  check_descriptors(*tasks);
  const Life life = begin_life(options.name, options.state_dir);
  tasks->prepare(life.node());
  WorkerSettings settings;
  settings.node = life.node();
  settings.replaces = life.replaces();
  settings.concurrency = options.concurrency;
  settings.tasks = tasks->tasks();
  settings.queues = options.queues;
  settings.labels = options.labels;
  settings.drain_grace_ms = options.drain_grace_ms;
  log_line(LogLevel::info,
           "node_started",
           {{"node", settings.node},
            {"replaces", settings.replaces},
            {"broker", options.broker},
            {"concurrency", std::to_string(settings.concurrency)}});
  return NodeLoop(options, std::move(settings), std::move(tasks), std::move(read_again)).run();
}

}  // namespace sluice
