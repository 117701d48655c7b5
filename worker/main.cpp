// sluice-worker: a worker node from flags, environment and a TOML file.
#include "common/process.h"
#include "worker/runtime/builtin_tasks.h"
#include "worker/runtime/worker_program.h"

int main(int argc, char** argv) {
  sluice::fill_closed_descriptors();
  return sluice::run_worker(
      argc,
      argv,
      {.name = "sluice-worker",
       .purpose = "A worker node of a Sluice cluster: takes jobs from a broker and runs them.",
       .handlers = sluice::builtin_handlers(),
       .for_isolates = sluice::crashing_handlers()});
}
