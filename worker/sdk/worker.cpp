#include "worker/sdk/worker.h"

#include <array>
#include <cstdio>
#include <optional>
#include <vector>

#include "common/limits.h"
#include "worker/runtime/node.h"
#include "worker/runtime/worker_program.h"

namespace sluice {

// What the program has set itself; empty = what is configured.
struct Worker::Settings {
  Handlers handlers;
  std::vector<Middleware> middlewares;
  std::string name;
  std::string broker;
  std::optional<std::uint32_t> concurrency;
  std::vector<std::string> queues;
  std::string state_dir;

  void decide(WorkerOptions& options) const {
    if (!name.empty()) options.name = name;
    if (!broker.empty()) options.broker = broker;
    if (concurrency) options.concurrency = *concurrency;
    if (!queues.empty()) options.queues = queues;
    if (!state_dir.empty()) options.state_dir = state_dir;
  }
};

namespace {

std::string program_name(const char* path) {
  const std::string text = path == nullptr ? "" : path;
  const std::size_t slash = text.rfind('/');
  const std::string name = slash == std::string::npos ? text : text.substr(slash + 1);
  return name.empty() ? "worker" : name;
}

}  // namespace

Worker::Worker() : settings_(std::make_unique<Settings>()) {}

Worker::~Worker() = default;

Worker& Worker::name(std::string text) {
  settings_->name = std::move(text);
  return *this;
}

Worker& Worker::broker(std::string address) {
  settings_->broker = std::move(address);
  return *this;
}

Worker& Worker::concurrency(std::uint32_t count) {
  settings_->concurrency = count;
  return *this;
}

Worker& Worker::queue(std::string name) {
  settings_->queues.push_back(std::move(name));
  return *this;
}

Worker& Worker::state_dir(std::string path) {
  settings_->state_dir = std::move(path);
  return *this;
}

Worker& Worker::on_handler(std::string task, TaskHandler handler) {
  settings_->handlers[std::move(task)] = std::move(handler);
  return *this;
}

Worker& Worker::before(std::function<void(Task&)> step) {
  return around([step = std::move(step)](Task& task, const TaskHandler& next) {
    step(task);
    return next(task);
  });
}

Worker& Worker::after(std::function<void(Task&, TaskOutcome&)> step) {
  return around([step = std::move(step)](Task& task, const TaskHandler& next) {
    TaskOutcome outcome = next(task);
    step(task, outcome);
    return outcome;
  });
}

Worker& Worker::around(Middleware middleware) {
  settings_->middlewares.push_back(std::move(middleware));
  return *this;
}

int Worker::run() {
  std::string name = "worker";
  std::array<char*, 2> argv{name.data(), nullptr};
  return run(1, argv.data());
}

int Worker::run(int argc, char** argv) {
  const std::string name = program_name(argc > 0 ? argv[0] : nullptr);
  if (settings_->handlers.empty()) {
    std::fprintf(stderr, "%s: no task: call on(task, handler) before run()\n", name.c_str());
    return node_misconfigured;
  }
  const std::uint32_t concurrency = settings_->concurrency.value_or(1);
  if (concurrency < 1 || concurrency > kConcurrencyMax) {
    std::fprintf(stderr,
                 "%s: concurrency is %u, allowed are 1 to %u\n",
                 name.c_str(),
                 concurrency,
                 kConcurrencyMax);
    return node_misconfigured;
  }
  return run_worker(argc,
                    argv,
                    {.name = name,
                     .purpose = "A worker node of a Sluice cluster with handlers of its own.",
                     .handlers = with_middlewares(settings_->handlers, settings_->middlewares),
                     .offers_all = true,
                     .decide = [this](WorkerOptions& options) {
                       settings_->decide(options);
                     }});
}

}  // namespace sluice
