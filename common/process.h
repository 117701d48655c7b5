// What the broker and a worker node ask of the system for their process.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace sluice {

// SIGTERM and SIGINT, and others that are asked for, as something to read. Made before any thread
// starts, for it blocks them in this thread and those started by it. Throws std::system_error.
class StopSignals {
 public:
  explicit StopSignals(std::initializer_list<int> others = {});
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Readable when one has come; not blocking.
  [[nodiscard]] int fd() const { return fd_; }

  struct Taken {
    int stops = 0;
    int hangups = 0;  // SIGHUP
  };

  // How many have come since the last call.
  [[nodiscard]] Taken take() const;

 private:
  int fd_ = -1;
};

// To be called first in main(). A descriptor 0, 1 or 2 that was closed would be given to a socket
// or an eventfd, into which logs and results would then be written. It becomes one that can neither
// be read nor written, so that either fails.
void fill_closed_descriptors();

// Takes all the file descriptors that this process may have, and returns how many: ZeroMQ aborts or
// spins without. 0: not known.
std::uint64_t raise_descriptor_limit();

}  // namespace sluice
