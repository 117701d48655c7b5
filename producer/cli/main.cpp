#include <ios>

#include "common/process.h"
#include "producer/cli/cli.h"

int main(int argc, char** argv) {
  sluice::fill_closed_descriptors();
  std::ios::sync_with_stdio(false);  // a million lines are read
  return sluice::cli::run(argc, argv);
}
