// A worker node as a program: flags, environment and file, then the node until it leaves. Both
// sluice-worker and a program with handlers of its own (sdk/worker.h) are this.
#pragma once

#include <functional>
#include <string>

#include "worker/runtime/handler_call.h"
#include "worker/runtime/worker_config.h"

namespace sluice {

struct WorkerProgram {
  std::string name;            // stands before what it says on stderr
  std::string purpose;         // one sentence for --help
  Handlers handlers;           // what settings may name
  Handlers for_isolates = {};  // what they may name in an isolate beside those, and only there
  // Every handler is a task, on a thread unless a [task.NAME] table says otherwise. Else they are
  // the built-in ones, offered by --builtin, or when there is no other task.
  bool offers_all = false;
  // What the program has decided itself, over whatever was configured. May be empty.
  std::function<void(WorkerOptions&)> decide = {};
};

// Call it from main(), before other threads exist. Returns the exit code, see NodeExit.
[[nodiscard]] int run_worker(int argc, const char* const* argv, const WorkerProgram& program);

}  // namespace sluice
