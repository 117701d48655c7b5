// A worker node of your own in C++. The smallest one:
//
//   #include "worker/sdk/worker.h"
//   int main() {
//     sluice::Worker worker;
//     worker.on("shout", [](sluice::Task& task) { return upper(task.payload()); });
//     return worker.run();
//   }
//
// It is configured as sluice-worker is: by the environment (SLUICE_WORKER_BROKER, SLUICE_NAME,
// ...), by the file that SLUICE_CONFIG names and, with run(argc, argv), by flags; worker/README.md
// lists them. A [task.NAME] table of the file says how a handler is run, `run = "isolate"` in a
// process of its own; without one it is called on a thread. What the program sets itself wins over
// all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "worker/sdk/task.h"

namespace sluice {

class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // How people see this node; default the host's name. [A-Za-z0-9_.-], at most 64.
  Worker& name(std::string text);
  // Default tcp://127.0.0.1:7712.
  Worker& broker(std::string address);
  // Attempts that run at once, 1..10000; default the CPUs.
  Worker& concurrency(std::uint32_t count);
  // Take jobs of this queue only; may be called several times. Default: every queue.
  Worker& queue(std::string name);
  // A directory that remembers this node's life, so that its successor is known as such.
  Worker& state_dir(std::string path);

  // Offers a task. `handler` is called with a Task& on several threads at once, or in isolates; it
  // returns a string (the result), a TaskOutcome, or nothing, and may throw (see TaskFailed).
  template <typename Callable>
  Worker& on(std::string task, Callable handler) {
    return on_handler(std::move(task), make_handler(std::move(handler)));
  }

  // Middlewares: code of your own around every handler of this worker, added before or after it.
  // The first one added is the outermost. They run where the handler does, on its thread or in its
  // isolate, by several threads at once, within the time-out of the attempt.
  //
  // Ahead of the handler. What it throws is the outcome, as if the handler had thrown it (see
  // TaskFailed), and the handler is not called.
  Worker& before(std::function<void(Task&)> step);
  // Behind it, with the outcome, which it may change. What the handler threw has become one.
  Worker& after(std::function<void(Task&, TaskOutcome&)> step);
  // Around it.
  Worker& around(Middleware middleware);

  // Works until SIGTERM or SIGINT: the first drains (25 s, then hands back), the second leaves at
  // once. Call it from main(), before other threads exist: it blocks both signals. Returns the exit
  // code: 0 drained, 1 could not begin (a line on stderr says why), 2 bad settings, 5 left with
  // results that nobody acknowledged, 70 a runtime broke. Once.
  [[nodiscard]] int run();
  // The same with the flags of sluice-worker; also answers --help, --version and --check-config.
  [[nodiscard]] int run(int argc, char** argv);

 private:
  struct Settings;

  Worker& on_handler(std::string task, TaskHandler handler);

  std::unique_ptr<Settings> settings_;
};

}  // namespace sluice
