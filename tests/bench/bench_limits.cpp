#include <algorithm>
#include <stdexcept>

#include <hiredis/hiredis.h>
#include <zmq.hpp>

#include "tests/bench/bench.h"

namespace sluice::bench {

namespace {

// A broker that keeps nothing: what comes from a producer goes to the one node, what comes back
// goes to the producer. As many copies and hops as ours, and nothing else.
class BareBroker {
 public:
  BareBroker() : thread_([this] { run(); }) {}

  ~BareBroker() {
    stop_ = true;
    thread_.join();
    node_.join();
  }

  BareBroker(const BareBroker&) = delete;
  BareBroker& operator=(const BareBroker&) = delete;

  [[nodiscard]] std::string producers() const {
    return "tcp://127.0.0.1:" + std::to_string(producers_port_);
  }

 private:
  void run() {
    zmq::context_t context(1);
    zmq::socket_t producers(context, zmq::socket_type::router),
        workers(context, zmq::socket_type::router);
    producers.set(zmq::sockopt::linger, 0);
    workers.set(zmq::sockopt::linger, 0);
    producers.bind("tcp://127.0.0.1:" + std::to_string(producers_port_));
    workers.bind("tcp://127.0.0.1:" + std::to_string(workers_port_));
    zmq::message_t id, body, node, producer;
    zmq_pollitem_t items[] = {{producers.handle(), 0, ZMQ_POLLIN, 0},
                              {workers.handle(), 0, ZMQ_POLLIN, 0}};
    while (!stop_) {
      (void)zmq_poll(items, 2, 50);
      while (workers.recv(id, zmq::recv_flags::dontwait)) {
        (void)workers.recv(body, zmq::recv_flags::none);
        if (body.size() == 1) {  // the node says hello
          node = std::move(id);
          continue;
        }
        zmq::message_t to;
        to.copy(producer);
        producers.send(std::move(to), zmq::send_flags::sndmore);
        producers.send(std::move(body), zmq::send_flags::none);
      }
      while (node.size() > 0 && producers.recv(id, zmq::recv_flags::dontwait)) {
        (void)producers.recv(body, zmq::recv_flags::none);
        producer = std::move(id);
        zmq::message_t to;
        to.copy(node);
        workers.send(std::move(to), zmq::send_flags::sndmore);
        workers.send(std::move(body), zmq::send_flags::none);
      }
    }
  }

  void answer() const {
    zmq::context_t context(1);
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 0);
    socket.connect("tcp://127.0.0.1:" + std::to_string(workers_port_));
    socket.send(zmq::buffer("h", 1), zmq::send_flags::none);
    zmq::message_t message;
    zmq_pollitem_t item = {socket.handle(), 0, ZMQ_POLLIN, 0};
    while (!stop_) {
      (void)zmq_poll(&item, 1, 50);
      while (socket.recv(message, zmq::recv_flags::dontwait))
        socket.send(std::move(message), zmq::send_flags::none);
    }
  }

  int producers_port_ = free_port();
  int workers_port_ = free_port();
  std::atomic<bool> stop_{false};
  std::thread thread_;
  std::thread node_{[this] {
    answer();
  }};
};

}  // namespace

double bare_router_jobs_per_s(std::uint64_t jobs, std::size_t bytes) {
  const BareBroker broker;
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.connect(broker.producers());
  const std::string frame(bytes, 'x');
  constexpr std::uint64_t kWindow = 512;
  std::uint64_t sent = 0, received = 0;
  zmq::message_t message;
  const std::int64_t begin = now_us();
  while (received < jobs) {
    for (; sent < jobs && sent - received < kWindow; ++sent)
      socket.send(zmq::buffer(frame), zmq::send_flags::none);
    zmq_pollitem_t item = {socket.handle(), 0, ZMQ_POLLIN, 0};
    (void)zmq_poll(&item, 1, 50);
    while (socket.recv(message, zmq::recv_flags::dontwait))
      ++received;
  }
  return static_cast<double>(jobs) * 1e6 / static_cast<double>(now_us() - begin);
}

Latency bare_router_latency(int jobs) {
  const BareBroker broker;
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.connect(broker.producers());
  std::vector<std::int64_t> times;
  zmq::message_t message;
  for (int i = 0; i < jobs; ++i) {
    const std::int64_t begin = now_us();
    socket.send(zmq::buffer(std::string(200, 'x')), zmq::send_flags::none);
    (void)socket.recv(message, zmq::recv_flags::none);
    times.push_back(now_us() - begin);
  }
  std::sort(times.begin(), times.end());
  return {static_cast<double>(times[times.size() / 2]),
          static_cast<double>(times[times.size() * 99 / 100])};
}

double bare_redis_jobs_per_s(const std::string& socket,
                             std::uint64_t jobs,
                             std::size_t jobs_per_entry,
                             std::size_t bytes_per_job) {
  redisContext* redis = redisConnectUnix(socket.c_str());
  if (redis == nullptr || redis->err != 0) throw std::runtime_error("bench: no redis at " + socket);
  const std::string entry(jobs_per_entry * bytes_per_job, 'x');
  const std::uint64_t entries = jobs / jobs_per_entry;
  std::uint64_t sent = 0;
  const std::int64_t begin = now_us();
  for (std::uint64_t received = 0; received < entries; ++received) {
    for (; sent < entries && sent - received < 4; ++sent) {
      const char* argv[] = {"XADD", "bench:log", "*", "b", entry.data()};
      const std::size_t sizes[] = {4, 9, 1, 1, entry.size()};
      redisAppendCommandArgv(redis, 5, argv, sizes);
    }
    void* reply = nullptr;
    if (redisGetReply(redis, &reply) != REDIS_OK)
      throw std::runtime_error("bench: redis went away");
    freeReplyObject(reply);
  }
  const double took = static_cast<double>(now_us() - begin);
  freeReplyObject(redisCommand(redis, "DEL bench:log"));
  redisFree(redis);
  return static_cast<double>(entries * jobs_per_entry) * 1e6 / took;
}

}  // namespace sluice::bench
