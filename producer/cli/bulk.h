// `sluice submit --jsonl`: any number of jobs in bounded memory.
#pragma once

#include <string>

#include "producer/cli/cli.h"

namespace sluice::cli {

struct BulkArguments {
  std::string path;  // - = stdin
  bool stops_at_error = false;
};

// Returns the exit status: 1 when a line was bad or a job refused, 75 when that was only for now.
int submit_lines(Cli& cli, const BulkArguments& arguments);

}  // namespace sluice::cli
