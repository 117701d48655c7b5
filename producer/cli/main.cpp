#include "common/process.h"
#include "producer/cli/cli.h"

int main(int argc, char** argv) {
  sluice::fill_closed_descriptors();
  return sluice::cli::run(argc, argv);
}
