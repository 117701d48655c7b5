// `sluice-bench`: one run, one report in Markdown on stdout. Everything that a user gets is on:
// durable with everysec, ids checked, content hash, replay ring, retention, ended ids. The limits
// of the parts are measured beside it, so that ratios hold on a noisy machine.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include "tests/bench/bench.h"

#include <CLI/CLI.hpp>

namespace {

using namespace sluice::bench;

constexpr std::uint64_t kShortQueue = 2'000;
constexpr std::uint64_t kBacklog = 20'000;

struct Options {
  std::uint64_t jobs = 200'000;
  int rounds = 3;
  int latency_jobs = 2'000;
  bool is_brief = false;
  std::string broker;
};

std::filesystem::path own_directory() {
  return std::filesystem::canonical("/proc/self/exe").parent_path();
}

void say(const std::string& line) {
  std::fputs(line.c_str(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

// Median, and the spread as least and greatest.
std::string row(const std::string& name, std::vector<double> values, const char* format) {
  std::sort(values.begin(), values.end());
  const auto show = [&](double value) {
    return fmt::format(fmt::runtime(format), value);
  };
  return fmt::format("| {} | {} | {} – {} |",
                     name,
                     show(values[values.size() / 2]),
                     show(values.front()),
                     show(values.back()));
}

std::vector<double> repeat(int rounds, const std::function<double()>& measure) {
  std::vector<double> values;
  for (int i = 0; i < rounds; ++i)
    values.push_back(measure());
  return values;
}

class Cluster {
 public:
  explicit Cluster(const std::string& binary)
      : broker_({binary,
                 "--producers",
                 producers(),
                 "--workers",
                 workers(),
                 "--events",
                 "tcp://127.0.0.1:" + std::to_string(free_port()),
                 "--data",
                 directory_.path(),
                 "--log-level",
                 "warn"}) {}

  [[nodiscard]] std::string producers() const {
    return "tcp://127.0.0.1:" + std::to_string(producers_port_);
  }

  [[nodiscard]] std::string workers() const {
    return "tcp://127.0.0.1:" + std::to_string(workers_port_);
  }

  [[nodiscard]] const Process& broker() const { return broker_; }

 private:
  TemporaryDirectory directory_;
  int producers_port_ = free_port();
  int workers_port_ = free_port();
  Process broker_;
};

void wait_until_welcome(const NoopNodes& nodes) {
  for (int i = 0; i < 1000 && !nodes.are_welcome(); ++i)
    ::usleep(10'000);
  if (!nodes.are_welcome())
    throw std::runtime_error("the broker did not welcome the nodes within 10 s");
}

void throughput(const Options& options,
                const Cluster& cluster,
                int nodes,
                std::uint32_t slots,
                std::size_t per_message,
                std::uint64_t window) {
  const NoopNodes noop(cluster.workers(), nodes, slots);
  wait_until_welcome(noop);
  std::vector<double> jobs_per_s, cpu;
  for (int i = 0; i < options.rounds; ++i) {
    const Throughput result = measure_throughput(cluster.producers(),
                                                 noop,
                                                 cluster.broker(),
                                                 options.jobs,
                                                 per_message,
                                                 200,
                                                 window);
    jobs_per_s.push_back(result.jobs_per_s);
    cpu.push_back(result.broker_us_per_job);
  }
  const std::string name = fmt::format("{} × {} slots, {} jobs a message, {} waiting",
                                       nodes,
                                       slots,
                                       per_message,
                                       window);
  say(row("jobs/s, " + name, jobs_per_s, "{:.0f}"));
  say(row("broker CPU µs/job, " + name, cpu, "{:.2f}"));
}

void latency(const Options& options, const Cluster& cluster) {
  const NoopNodes noop(cluster.workers(), 1, 4);
  wait_until_welcome(noop);
  std::vector<double> p50, p99;
  for (int i = 0; i < options.rounds; ++i) {
    const Latency result = measure_latency(cluster.producers(), options.latency_jobs);
    p50.push_back(result.p50_us);
    p99.push_back(result.p99_us);
  }
  say(row("one job at a time, p50 µs", p50, "{:.0f}"));
  say(row("one job at a time, p99 µs", p99, "{:.0f}"));
}

void limits(const Options& options) {
  say(row("bare ROUTER/ROUTER broker, jobs/s",
          repeat(options.rounds, [&] { return bare_router_jobs_per_s(options.jobs, 200); }),
          "{:.0f}"));
  say(row("bare ROUTER/ROUTER broker, one at a time, p50 µs",
          repeat(options.rounds, [&] { return bare_router_latency(options.latency_jobs).p50_us; }),
          "{:.0f}"));
  const TemporaryDirectory directory;
  const std::string socket = directory.path() + "/redis.sock";
  const Process redis({"redis-server",
                       "--port",
                       "0",
                       "--unixsocket",
                       socket,
                       "--dir",
                       directory.path(),
                       "--appendonly",
                       "yes",
                       "--appendfsync",
                       "everysec",
                       "--save",
                       "",
                       "--loglevel",
                       "warning"});
  for (int i = 0; i < 500 && !std::filesystem::exists(socket); ++i)
    ::usleep(10'000);
  say(row("bare Redis log (XADD of 256 × 320 B, 4 in flight), jobs/s",
          repeat(options.rounds,
                 [&] { return bare_redis_jobs_per_s(socket, 10 * options.jobs, 256, 320); }),
          "{:.0f}"));
}

int run(const Options& options) {
  say(
      fmt::format("\n{} jobs of 200 B a round, {} rounds; median and spread; everything on this "
                  "machine's cores.\n",
                  options.jobs,
                  options.rounds));
  say("| what | median | spread |\n| --- | --- | --- |");
  {
    const Cluster cluster(options.broker);
    // Jobs that end within a round of the view, and a backlog in which each is written twice.
    throughput(options, cluster, 2, 256, 100, kShortQueue);
    throughput(options, cluster, 2, 256, 100, kBacklog);
    if (options.is_brief) return 0;
    throughput(options, cluster, 2, 64, 100, kShortQueue);
    throughput(options, cluster, 2, 16, 100, kShortQueue);
    throughput(options, cluster, 2, 256, 1, kShortQueue);
    latency(options, cluster);
  }
  limits(options);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.broker = (own_directory() / "sluice-broker").string();
  CLI::App app("Measures a Sluice broker and the limits of its parts, and prints a table.");
  app.add_option("--jobs", options.jobs, "jobs a round")->check(CLI::Range(1'000, 100'000'000));
  app.add_option("--rounds", options.rounds, "rounds of each figure")->check(CLI::Range(1, 100));
  app.add_option("--latency-jobs", options.latency_jobs, "jobs of a latency round")
      ->check(CLI::Range(10, 1'000'000));
  app.add_flag("--brief", options.is_brief, "only the first two figures, for a profile");
  app.add_option("--broker", options.broker, "the sluice-broker to measure");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-bench: %s\n", error.what());
    return 1;
  }
}
