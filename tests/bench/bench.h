// The pieces of the benchmark: the broker as a process, nodes that do nothing but answer, and the
// limits of the parts (a ROUTER/ROUTER broker that keeps nothing, a Redis that only appends) in the
// same run.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace sluice::bench {

[[nodiscard]] std::int64_t now_us();

// A child process that is ended with the object (SIGTERM, then SIGKILL after five seconds).
class Process {
 public:
  explicit Process(std::vector<std::string> argv);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void stop();

  [[nodiscard]] pid_t pid() const { return pid_; }

  // CPU time used so far, in microseconds.
  [[nodiscard]] std::int64_t cpu_us() const;

 private:
  pid_t pid_;
};

// A directory under the system's temporary one, removed with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

[[nodiscard]] int free_port();

// Nodes that answer every `run` at once with completed no-op results, each a real socket; all in
// one thread of this process.
class NoopNodes {
 public:
  NoopNodes(const std::string& address, int nodes, std::uint32_t slots);
  ~NoopNodes();
  NoopNodes(const NoopNodes&) = delete;
  NoopNodes& operator=(const NoopNodes&) = delete;

  // Results that the broker has recorded.
  [[nodiscard]] std::uint64_t acked() const { return acked_; }

  [[nodiscard]] bool are_welcome() const { return welcomed_ == nodes_; }

 private:
  void run(const std::string& address, std::uint32_t slots);
  int nodes_;
  std::atomic<std::uint64_t> acked_{0};
  std::atomic<int> welcomed_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Throughput {
  double jobs_per_s = 0;
  double broker_us_per_job = 0;  // CPU of the broker process
};

// Submits `jobs` no-op jobs of `payload_bytes` in messages of `per_message`, with at most `window`
// jobs waiting, and waits until all are recorded.
[[nodiscard]] Throughput measure_throughput(const std::string& producers,
                                            const NoopNodes& nodes,
                                            const Process& broker,
                                            std::uint64_t jobs,
                                            std::size_t per_message,
                                            std::size_t payload_bytes,
                                            std::uint64_t window);

struct Latency {
  double p50_us = 0, p99_us = 0;
};

// One job at a time, submit with wait, until its result is at the producer.
[[nodiscard]] Latency measure_latency(const std::string& producers, int jobs);

// ---- limits of the parts
// Messages/s through a ROUTER/ROUTER broker that keeps nothing: producer -> broker -> node ->
// broker -> producer, one frame of `bytes` each way.
[[nodiscard]] double bare_router_jobs_per_s(std::uint64_t jobs, std::size_t bytes);
[[nodiscard]] Latency bare_router_latency(int jobs);
// Jobs/s of a redis-server (append-only, everysec) that is given stream entries of `jobs_per_entry`
// jobs of `bytes_per_job`, four in flight.
[[nodiscard]] double bare_redis_jobs_per_s(const std::string& socket,
                                           std::uint64_t jobs,
                                           std::size_t jobs_per_entry,
                                           std::size_t bytes_per_job);

}  // namespace sluice::bench
