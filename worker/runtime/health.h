// What a running node says of itself to `sluice-worker --check`, over a unix socket that everybody
// on this machine, or in this container, may ask. The node's loop itself answers: one that does not
// turn is silent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/result.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

struct Health {
  std::string node;
  std::string broker;
  bool is_connected = false;  // a broker has welcomed it
  bool is_draining = false;
  std::size_t running = 0;
  std::uint32_t concurrency = 0;
  std::size_t unacknowledged = 0;
};

// `node=n1@3b487905 broker=tcp://127.0.0.1:7712 connected=yes draining=no running=1 ...`
[[nodiscard]] std::string to_line(const Health& health);

// Where a node is asked: by its state directory, or if it has none by its name.
[[nodiscard]] std::string health_place(const std::string& name, const std::string& state_dir);

class HealthSocket {
 public:
  // Not open, with a line in the log, when another node has the place: this one goes on unasked.
  explicit HealthSocket(const std::string& place);

  // Readable when somebody asks; -1 when it is not open.
  [[nodiscard]] int fd() const { return listening_.get(); }

  // Tells whoever asks; never blocks.
  void answer(const Health& health);

 private:
  UniqueFd listening_;
  UniqueFd spare_;
};

// The line of the node at that place. Errors: not_found (no node there), denied (another user has
// the place, who is neither root nor we; root asks everybody), retry_later (it is there, and says
// nothing for `timeout_ms`).
[[nodiscard]] Result<std::string> ask_health(const std::string& place, int timeout_ms);

}  // namespace sluice
