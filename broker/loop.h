// The broker's loop: one thread that carries bytes between its sockets, its store and the engine.
//
//   poll -> receive workers, producers, store -> engine.turn() -> send frames and store requests
//
// It never sleeps but in that poll, and the poll ends with the next deadline.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/engine.h"
#include "broker/net/router.h"
#include "common/time.h"

namespace sluice {

struct LoopSockets {
  std::unique_ptr<RouterSocket> producers;
  std::unique_ptr<RouterSocket> workers;
  std::unique_ptr<EventsSocket> events;
};

class Loop {
 public:
  // `signals`: a signalfd of SIGTERM and SIGINT. All must outlive the loop.
  Loop(Engine& engine, Store& store, LoopSockets& sockets, int signals);

  // Runs until a signal has been carried out in order, or the state belongs to another broker.
  // Returns the exit code of the process.
  int run();

 private:
  [[nodiscard]] Now read_clock();
  void poll(Now now);
  void receive(Now now);
  void receive_store(Now now);
  void send(Now now);
  void on_signal(Now now);
  void log_facts();

  Engine& engine_;
  Store& store_;
  LoopSockets& sockets_;
  int signals_;
  SlewedClock clock_;
  std::int64_t last_turn_ms_ = 0;
  std::int64_t last_wait_ms_ = 0;
  std::int64_t stop_until_ms_ = kNever;
  bool is_readable_ = false, is_writable_ = false;  // the store, in this turn
  std::vector<StoreReply> replies_;
  std::vector<StoreRequest> requests_;
  std::vector<Frame> frames_;
  std::vector<EngineFact> facts_;
};

// Whether the signalfd `signals` has one to read; waits for it up to `wait_ms`.
[[nodiscard]] bool is_signalled(int signals, int wait_ms);

}  // namespace sluice
