// The broker's sockets: bytes <-> messages, with the settings that PROTOCOL.md's transport asks
// for. Everything here belongs to the loop's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "broker/core/events.h"
#include "common/result.h"

namespace zmq {
class context_t;
}

namespace sluice {

class RouterSocket {
 public:
  // Binds. `queue_max`: messages kept for or from one peer. Errors, with the address, why and what
  // to do: retry_later (in use), bad_field (no such address, not an address).
  [[nodiscard]] static Result<std::unique_ptr<RouterSocket>> bind(zmq::context_t& context,
                                                                  const std::string& address,
                                                                  int queue_max);
  ~RouterSocket();
  RouterSocket(const RouterSocket&) = delete;
  RouterSocket& operator=(const RouterSocket&) = delete;

  struct Incoming {
    Peer peer;
    // Valid until the next call. Empty, which is no message, for one of more frames than its
    // payload.
    std::string_view bytes;
  };

  // The next message, without waiting.
  [[nodiscard]] std::optional<Incoming> receive();
  // Never waits: a peer that has left or does not read loses the message; its next request or
  // status brings it again.
  void send(const Peer& peer, std::string_view bytes);

  [[nodiscard]] void* handle() const;
  // Where it listens, with the port that was found for `:*`.
  [[nodiscard]] std::string endpoint() const;

 private:
  struct State;
  explicit RouterSocket(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class EventsSocket {
 public:
  [[nodiscard]] static Result<std::unique_ptr<EventsSocket>> bind(zmq::context_t& context,
                                                                  const std::string& address);
  ~EventsSocket();
  EventsSocket(const EventsSocket&) = delete;
  EventsSocket& operator=(const EventsSocket&) = delete;

  void send(std::string_view topic, std::string_view bytes);
  // Takes note of who subscribes and who leaves; call when readable.
  void watch_subscribers();
  // Whether anybody listens to job events.
  [[nodiscard]] bool has_job_subscribers() const;
  // Whether anybody asked for the logs of jobs; who wants every topic there is has not.
  [[nodiscard]] bool has_log_subscribers() const;
  [[nodiscard]] void* handle() const;
  [[nodiscard]] std::string endpoint() const;

 private:
  struct State;
  explicit EventsSocket(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sluice
