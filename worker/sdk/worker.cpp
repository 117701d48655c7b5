#include "worker/sdk/worker.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>

#include "worker/runtime/node.h"
#include "worker/runtime/thread_runtime.h"

namespace sluice {

struct Worker::Settings {
  NodeOptions node;
  std::map<std::string, TaskHandler> handlers;
};

namespace {

void from_environment(NodeOptions& options) {
  if (const char* broker = std::getenv("SLUICE_WORKER_BROKER")) options.broker = broker;
  if (const char* name = std::getenv("SLUICE_NAME")) options.name = name;
  if (const char* count = std::getenv("SLUICE_CONCURRENCY"))
    std::from_chars(count, count + std::strlen(count), options.concurrency);
}

std::optional<std::string> complaint(const NodeOptions& options, bool has_handler) {
  if (!has_handler) return "no task: call on(task, handler) before run()";
  if (options.concurrency > kConcurrencyMax)
    return "concurrency is " + std::to_string(options.concurrency) + ", allowed are 1 to 10000";
  if (options.name.size() > kNodeNameBytesMax) return "the name is longer than 64 bytes";
  return std::nullopt;
}

}  // namespace

Worker::Worker() : settings_(std::make_unique<Settings>()) {
  from_environment(settings_->node);
}

Worker::~Worker() = default;

Worker& Worker::name(std::string text) {
  settings_->node.name = std::move(text);
  return *this;
}

Worker& Worker::broker(std::string address) {
  settings_->node.broker = std::move(address);
  return *this;
}

Worker& Worker::concurrency(std::uint32_t count) {
  settings_->node.concurrency = count;
  return *this;
}

Worker& Worker::queue(std::string name) {
  settings_->node.queues.push_back(std::move(name));
  return *this;
}

Worker& Worker::state_dir(std::string path) {
  settings_->node.state_dir = std::move(path);
  return *this;
}

Worker& Worker::on_handler(std::string task, TaskHandler handler) {
  settings_->handlers[std::move(task)] = std::move(handler);
  return *this;
}

int Worker::run() {
  if (const auto wrong = complaint(settings_->node, !settings_->handlers.empty())) {
    std::fprintf(stderr, "worker: %s\n", wrong->c_str());
    return node_misconfigured;
  }
  try {
    auto builder = std::make_unique<ThreadRuntimeBuilder>();
    for (auto& [task, handler] : settings_->handlers)
      builder->add_handler(task, handler);
    TaskTable table;
    table.add_kind("thread", std::move(builder));
    for (const auto& [task, handler] : settings_->handlers) {
      const auto added = table.add(TaskSettings(task, {{"run", std::string("thread")}}));
      if (added) continue;
      std::fprintf(stderr,
                   "worker: %s %s\n",
                   added.error().where.c_str(),
                   added.error().detail.c_str());
      return node_misconfigured;
    }
    return run_node(settings_->node, table);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker: %s\n", error.what());
    return node_failed;
  }
}

}  // namespace sluice
