// What happens in the cluster, as it happens: a subscriber of the broker's events port. For
// watching, never for correctness: a slow watcher loses events and sees it by the sequence number.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/protocol/messages.h"

namespace sluice {

class EventStream {
 public:
  // `topics` are prefixes (`job.failed.`, `node.`, `log.ID`); none = all of jobs and nodes. Throws
  // std::runtime_error when the address is none.
  EventStream(const std::string& address, const std::vector<std::string>& topics);
  ~EventStream();
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // Waits until the subscription stands, at most `wait_ms`. Events from then on are seen.
  bool wait_until_up(std::int64_t wait_ms);
  // The next event; nothing after `wait_ms`, when a signal came, or when the connection changed.
  std::optional<SequencedEvent> next(std::int64_t wait_ms);

  [[nodiscard]] bool is_up() const;
  // Whether somebody accepts connections there, or the kernel does for somebody who is stopped.
  [[nodiscard]] bool is_accepted() const;
  // How often the publisher went away. It is sought again without end; what it says in between is
  // not seen, and a new one counts its events anew.
  [[nodiscard]] std::uint64_t lost_count() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
