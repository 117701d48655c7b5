// A broker of the tests: a ROUTER on a free port of loopback whose answers a function decides. It
// speaks through the real codec, so a client under test meets real bytes on a real socket.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

#include "common/protocol/codec.h"

namespace sluice::test {

class ScriptedBroker {
 public:
  // Called on the broker's thread for each request; what it returns is sent in that order.
  using Script = std::function<std::vector<ReplyBody>(const RequestBody&)>;

  // `address` empty = a free port.
  explicit ScriptedBroker(Script script, const std::string& address = "tcp://127.0.0.1:*")
      : script_(std::move(script)) {
    stop_source_.bind("inproc://stop");
    stop_target_.connect("inproc://stop");
    socket_.set(zmq::sockopt::linger, 0);
    socket_.bind(address);
    address_ = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this] { serve(); });
  }

  ~ScriptedBroker() {
    stop_source_.send(zmq::str_buffer("stop"), zmq::send_flags::none);
    thread_.join();
  }

  ScriptedBroker(const ScriptedBroker&) = delete;
  ScriptedBroker& operator=(const ScriptedBroker&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  void serve() {
    for (;;) {
      std::vector<zmq::pollitem_t> items{{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                         {stop_target_.handle(), 0, ZMQ_POLLIN, 0}};
      zmq::poll(items);
      if (items[1].revents != 0) return;
      zmq::message_t peer;
      zmq::message_t frame;
      if (!socket_.recv(peer) || !socket_.recv(frame)) return;
      answer(peer.to_string(), frame.to_string_view());
    }
  }

  void answer(const std::string& peer, std::string_view frame) {
    const auto request = decode_request(frame);
    if (!request)
      return send(
          peer,
          encode_reply({request.error().req, ErrorReply{request.error().error, false, {}}}));
    for (ReplyBody& body : script_(request->body))
      send(peer, encode_reply({request->req, std::move(body)}));
  }

  void send(const std::string& peer, const std::string& frame) {
    socket_.send(zmq::buffer(peer), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(frame), zmq::send_flags::none);
  }

  Script script_;
  zmq::context_t context_{1};
  zmq::socket_t socket_{context_, zmq::socket_type::router};
  zmq::socket_t stop_source_{context_, zmq::socket_type::pair};
  zmq::socket_t stop_target_{context_, zmq::socket_type::pair};
  std::string address_;
  std::thread thread_;
};

// `accepted` for each job of a submit.
inline Submitted accept_all(const Submit& submit) {
  Submitted submitted;
  for (const auto& job : submit.jobs)
    if (const auto* spec = std::get_if<JobSpec>(&job))
      submitted.results.push_back({spec->id.str(), SubmitStatus::accepted, {}, {}});
  return submitted;
}

inline JobView ended_view(std::string_view id, JobState state, std::string result = {}) {
  JobView view;
  view.id = JobId(id);
  view.state = state;
  Job job;
  job.spec.id = view.id;
  job.spec.task = "echo";
  job.state = state;
  job.created_ms = 1;
  job.finished_ms = view.finished_ms = 2;
  job.result = std::move(result);
  view.job = std::move(job);
  return view;
}

}  // namespace sluice::test
