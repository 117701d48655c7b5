#include <algorithm>
#include <stdexcept>

#include <zmq.hpp>

#include "common/protocol/codec.h"
#include "tests/bench/bench.h"

namespace sluice::bench {

namespace {

constexpr std::int64_t kHeartbeatUs = 1'000'000;
constexpr auto kGiveUp = std::chrono::seconds(30);

struct Node {
  zmq::socket_t socket;
  Status status;
  std::int64_t next_status_us = 0;
  bool is_welcome = false;

  void send_status() {
    ++status.seq;
    socket.send(zmq::buffer(encode_worker_message(status)), zmq::send_flags::none);
    next_status_us = now_us() + kHeartbeatUs;
  }
};

std::string id_of(std::uint64_t run, std::uint64_t number) {
  return "bench-" + std::to_string(run) + "-" + std::to_string(number);
}

Request submit_request(std::uint64_t run,
                       std::uint64_t first,
                       std::size_t count,
                       const std::string& payload) {
  Submit submit;
  for (std::size_t i = 0; i < count; ++i) {
    JobSpec spec;
    spec.id = JobId(id_of(run, first + i));
    spec.task = "noop";
    spec.payload = payload;
    submit.jobs.emplace_back(std::move(spec));
  }
  return {make_req(first), std::move(submit)};
}

std::uint64_t next_run() {
  static std::uint64_t run = static_cast<std::uint64_t>(now_us());
  return ++run;
}

}  // namespace

NoopNodes::NoopNodes(const std::string& address, int nodes, std::uint32_t slots)
    : nodes_(nodes), thread_([this, address, slots] { run(address, slots); }) {}

NoopNodes::~NoopNodes() {
  stop_ = true;
  thread_.join();
}

void NoopNodes::run(const std::string& address, std::uint32_t slots) {
  zmq::context_t context(1);
  std::vector<Node> nodes(static_cast<std::size_t>(nodes_));
  std::vector<zmq_pollitem_t> items;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Node& node = nodes[i];
    node.socket = zmq::socket_t(context, zmq::socket_type::dealer);
    node.socket.set(zmq::sockopt::linger, 0);
    node.socket.connect(address);
    node.status.node = "bench" + std::to_string(i) + "@" + std::to_string(next_run());
    node.status.concurrency = slots;
    node.status.tasks = {"noop"};
    node.send_status();
    items.push_back({node.socket.handle(), 0, ZMQ_POLLIN, 0});
  }
  zmq::message_t message;
  while (!stop_) {
    (void)zmq_poll(items.data(), static_cast<int>(items.size()), 100);
    for (Node& node : nodes) {
      Results results;
      results.node = node.status.node;
      while (node.socket.recv(message, zmq::recv_flags::dontwait)) {
        auto decoded = decode_broker_message(message.to_string_view());
        if (!decoded)
          throw std::runtime_error("bench: " + decoded.error().where + ": " +
                                   decoded.error().detail);
        node.status.seen = std::max(node.status.seen, decoded->number);
        if (std::holds_alternative<Welcome>(decoded->body) && !node.is_welcome) {
          node.is_welcome = true;
          ++welcomed_;
          node.send_status();
        } else if (auto* run = std::get_if<Run>(&decoded->body)) {
          for (const RunJob& job : run->jobs) {
            AttemptResult result;
            result.id = job.id;
            result.fence = job.fence;
            results.results.push_back(std::move(result));
          }
        } else if (auto* ack = std::get_if<Ack>(&decoded->body)) {
          acked_ += ack->results.size();
        }
        if (results.results.size() >= 500) break;
      }
      if (!results.results.empty())
        node.socket.send(zmq::buffer(encode_worker_message(results)), zmq::send_flags::none);
      if (now_us() >= node.next_status_us) node.send_status();
    }
  }
  for (Node& node : nodes)
    node.socket.send(zmq::buffer(encode_worker_message(Goodbye{node.status.node})),
                     zmq::send_flags::none);
}

Throughput measure_throughput(const std::string& producers,
                              const NoopNodes& nodes,
                              const Process& broker,
                              std::uint64_t jobs,
                              std::size_t per_message,
                              std::size_t payload_bytes,
                              std::uint64_t window) {
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.connect(producers);
  const std::string payload(payload_bytes, 'x');
  const std::uint64_t run = next_run();
  const std::uint64_t acked_before = nodes.acked();
  std::uint64_t submitted = 0, accepted = 0;
  const std::int64_t cpu_before = broker.cpu_us();
  const std::int64_t begin = now_us();
  std::int64_t progress_at = begin;
  zmq::message_t message;
  while (nodes.acked() - acked_before < jobs) {
    const std::uint64_t done = nodes.acked() - acked_before;
    if (submitted < jobs && submitted - std::min(done, accepted) < window) {
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(per_message, jobs - submitted));
      socket.send(zmq::buffer(encode_request(submit_request(run, submitted, count, payload))),
                  zmq::send_flags::none);
      submitted += count;
    } else {
      zmq_pollitem_t item = {socket.handle(), 0, ZMQ_POLLIN, 0};
      (void)zmq_poll(&item, 1, 1);
    }
    while (socket.recv(message, zmq::recv_flags::dontwait)) {
      auto reply = decode_reply(message.to_string_view());
      auto* answer = reply ? std::get_if<Submitted>(&reply->body) : nullptr;
      if (answer == nullptr) throw std::runtime_error("bench: a submit was not taken");
      accepted += answer->results.size();
      progress_at = now_us();
    }
    if (now_us() - progress_at > std::chrono::microseconds(kGiveUp).count() &&
        nodes.acked() - acked_before == done)
      throw std::runtime_error("bench: no progress for 30 s");
  }
  const auto took = static_cast<double>(now_us() - begin);
  const auto cpu = static_cast<double>(broker.cpu_us() - cpu_before);
  return {static_cast<double>(jobs) * 1e6 / took, cpu / static_cast<double>(jobs)};
}

Latency measure_latency(const std::string& producers, int jobs) {
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.connect(producers);
  const std::uint64_t run = next_run();
  std::vector<std::int64_t> times;
  zmq::message_t message;
  for (int i = 0; i < jobs; ++i) {
    Request request = submit_request(run, static_cast<std::uint64_t>(i), 1, std::string(200, 'x'));
    std::get<Submit>(request.body).wait = true;
    const std::int64_t begin = now_us();
    socket.send(zmq::buffer(encode_request(request)), zmq::send_flags::none);
    while (true) {
      if (!socket.recv(message, zmq::recv_flags::none)) continue;
      const auto reply = decode_reply(message.to_string_view());
      if (reply && std::holds_alternative<Finished>(reply->body)) times.push_back(now_us() - begin);
      if (reply && std::holds_alternative<Waited>(reply->body)) break;
      if (!reply || std::holds_alternative<ErrorReply>(reply->body))
        throw std::runtime_error("bench: a job was not taken");
    }
  }
  std::sort(times.begin(), times.end());
  return {static_cast<double>(times[times.size() / 2]),
          static_cast<double>(times[times.size() * 99 / 100])};
}

}  // namespace sluice::bench
