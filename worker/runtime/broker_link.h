// The worker's ZeroMQ side: one DEALER to the broker, and the monitor that tells when its
// connection stands. Bytes in, events out; messages in, bytes out. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "common/time.h"
#include "worker/core/events.h"

struct zmq_pollitem_t;

namespace zmq {
class context_t;
class socket_t;
}  // namespace zmq

namespace sluice {

class BrokerLink {
 public:
  // Begins to connect. `concurrency` sizes the queues. Throws zmq::error_t on a bad address.
  BrokerLink(std::string address, std::uint32_t concurrency);
  ~BrokerLink();
  BrokerLink(const BrokerLink&) = delete;
  BrokerLink& operator=(const BrokerLink&) = delete;

  // What to wait for. Two items.
  void add_poll_items(std::vector<zmq_pollitem_t>& items);

  [[nodiscard]] std::int64_t next_deadline_mono_ms() const {
    return std::min(reopen_ms_, revive_ms_);
  }

  // Everything that is there to read, at most a few thousand messages; connection events first.
  void read(Now now, std::vector<WorkerEvent>& events);
  void send(const WorkerMessage& message);
  // Sends what is left, waiting a second at most for room, then lingers two seconds at most.
  void close();

 private:
  void open();
  void shut(int linger_ms);
  void read_monitor(Now now, std::vector<WorkerEvent>& events);
  void read_messages(std::vector<WorkerEvent>& events);
  void on_monitor(std::uint16_t event,
                  std::uint32_t value,
                  Now now,
                  std::vector<WorkerEvent>& events);
  // Whether to say now what was said at `said_ms`; once a minute.
  [[nodiscard]] bool may_say(std::int64_t& said_ms, Now now) const;
  void say_silent(Now now);
  void say_nobody_answers(Now now);
  void flush();

  std::string address_;
  int high_water_mark_;
  std::unique_ptr<zmq::context_t> context_;
  std::unique_ptr<zmq::socket_t> socket_;  // both empty after close()
  std::unique_ptr<zmq::socket_t> monitor_;
  std::deque<std::string> backlog_;  // what the socket had no room for
  int monitor_count_ = 0;
  bool is_up_ = false;
  bool is_accepted_ = false;  // by somebody, or by the kernel for somebody who is stopped
  static constexpr std::int64_t kNotSaid = INT64_MIN;
  std::int64_t said_nobody_ms_ = kNotSaid;
  std::int64_t said_silent_ms_ = kNotSaid;
  // libzmq does not come back by itself after a refused handshake, nor after it ended a connection
  // over which the peer broke the rules (a message over the bound).
  std::int64_t reopen_ms_ = kNever;  // for the first: known at once
  std::int64_t revive_ms_ = kNever;  // for the second: it did not say that it tries again
  std::int64_t reopen_delay_ms_ = 1000;
};

}  // namespace sluice
