// Messages that wait for their batch. Whatever the core wishes to say is kept until the newest
// batch that was written, or is being gathered, when it was said is durable; then it goes, in the
// order in which it was said. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/events.h"
#include "common/protocol/messages.h"

namespace sluice {

enum class Channel : std::uint8_t {
  producers,
  workers,
  watchers
};

struct Frame {
  Channel channel = Channel::producers;
  Peer peer;  // watchers: routing_id is the topic
  std::string bytes;
};

class Outbox {
 public:
  // `after_batch`: the number of that batch; 0 or one that is confirmed already = at once, but
  // never before what was said to anyone earlier.
  void hold(Frame frame, std::uint64_t after_batch);

  // An answer that only tells, of nothing newer than `batch`.
  struct Telling {
    Req req;
    std::uint64_t batch = 0;
  };

  void hold(Frame frame, std::uint64_t after_batch, Telling telling);
  // The store is down: what only tells waits no longer. It goes if it tells of nothing that is not
  // confirmed; else `refusal` makes the answer to its request.
  void release_tellings(std::uint64_t confirmed,
                        const std::function<std::string(const Req&)>& refusal,
                        std::vector<Frame>& frames);
  // Everything whose batch is confirmed, to the end of `frames`.
  void release(std::uint64_t confirmed, std::vector<Frame>& frames);

  [[nodiscard]] std::size_t held_count() const { return held_.size(); }

  [[nodiscard]] std::size_t held_bytes() const { return held_bytes_; }

 private:
  struct Held {
    std::uint64_t after_batch;
    Frame frame;
    std::optional<Telling> telling{};
  };

  std::deque<Held> held_;
  std::size_t held_bytes_ = 0;
};

}  // namespace sluice
