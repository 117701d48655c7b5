#include <fcntl.h>
#include <unistd.h>

#include "producer/cli/cli.h"

namespace {

// A descriptor 0, 1 or 2 that was closed would be given to a socket, which would then be written to
// as stdout. It becomes one that can neither be read nor written, so that either fails.
void fill_closed_descriptors() {
  int fd = 0;
  do
    fd = ::open("/dev/null", O_PATH);
  while (fd >= 0 && fd <= 2);
  if (fd > 2) ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  fill_closed_descriptors();
  return sluice::cli::run(argc, argv);
}
