// What the codec costs: codec_bench in a release build. Read "time per item" as per job.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "common/protocol/codec.h"

namespace sluice {
namespace {

constexpr std::int64_t kJobs = 1000;

JobSpec a_job(std::int64_t i) {
  constexpr std::array<std::uint8_t, 10> kRandom = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  JobSpec spec;
  spec.id = JobId(make_uuid_v7(1'764'025'200'000 + i, kRandom));
  spec.task = "noop";
  spec.payload = std::string(200, 'x');
  return spec;
}

// As `state.range(0)` asks: only what is required, or every field.
JobSpec a_job(std::int64_t i, bool every_field) {
  JobSpec spec = a_job(i);
  if (!every_field) return spec;
  spec.queue = "images";
  spec.content_type = "application/json";
  spec.priority = Priority::high;
  spec.timeout_ms = 60'000;
  spec.retry.max_retries = 7;
  spec.tags = {"AAPL", "eu"};
  spec.headers = {{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}};
  return spec;
}

Submit a_submit(bool every_field) {
  Submit submit;
  for (std::int64_t i = 0; i < kJobs; ++i)
    submit.jobs.emplace_back(a_job(i, every_field));
  return submit;
}

void per_job(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * kJobs);
  state.counters["per_job"] = benchmark::Counter(
      static_cast<double>(kJobs),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void decode_submit(benchmark::State& state) {
  const std::string frame = encode_request({make_req(1), a_submit(state.range(0) != 0)});
  for (auto _ : state)
    benchmark::DoNotOptimize(decode_request(frame));
  per_job(state);
}

BENCHMARK(decode_submit)->ArgName("every_field")->Arg(0)->Arg(1);

void encode_submit(benchmark::State& state) {
  const Request request{make_req(1), a_submit(state.range(0) != 0)};
  for (auto _ : state)
    benchmark::DoNotOptimize(encode_request(request));
  per_job(state);
}

BENCHMARK(encode_submit)->ArgName("every_field")->Arg(0)->Arg(1);

void hash_content(benchmark::State& state) {
  JobSpec spec = a_job(1);
  spec.payload.assign(static_cast<std::size_t>(state.range(0)), 'x');
  for (auto _ : state)
    benchmark::DoNotOptimize(content_hash_of(spec));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK(hash_content)->ArgName("payload_bytes")->Arg(0)->Arg(200)->Arg(64 << 10)->Arg(1 << 20);

std::vector<Job> some_jobs() {
  std::vector<Job> jobs(kJobs);
  for (std::int64_t i = 0; i < kJobs; ++i) {
    jobs[static_cast<std::size_t>(i)].spec = a_job(i);
    jobs[static_cast<std::size_t>(i)].attempt = 1;
    jobs[static_cast<std::size_t>(i)].epoch = 1'764'025'200;
  }
  return jobs;
}

std::string a_run() {
  const std::vector<Job> jobs = some_jobs();
  std::vector<const Job*> pointers;
  for (const Job& job : jobs)
    pointers.push_back(&job);
  return encode_run({1'764'025'200, 7}, pointers);
}

void encode_run_of_jobs(benchmark::State& state) {
  const std::vector<Job> jobs = some_jobs();
  std::vector<const Job*> pointers;
  for (const Job& job : jobs)
    pointers.push_back(&job);
  for (auto _ : state)
    benchmark::DoNotOptimize(encode_run({1'764'025'200, 7}, pointers));
  per_job(state);
}

BENCHMARK(encode_run_of_jobs);

void decode_run(benchmark::State& state) {
  const std::string frame = a_run();
  for (auto _ : state)
    benchmark::DoNotOptimize(decode_broker_message(frame));
  per_job(state);
}

BENCHMARK(decode_run);

void decode_results(benchmark::State& state) {
  Results results{.node = "n1@9f2c41aa", .results = {}};
  for (std::int64_t i = 0; i < kJobs; ++i) {
    AttemptResult result;
    result.id = a_job(i).id;
    result.fence = {1'764'025'200, 1};
    result.result = "\xa5hello";
    results.results.push_back(std::move(result));
  }
  const std::string frame = encode_worker_message(results);
  for (auto _ : state)
    benchmark::DoNotOptimize(decode_worker_message(frame));
  per_job(state);
}

BENCHMARK(decode_results);

void encode_submitted(benchmark::State& state) {
  Submitted submitted;
  for (std::int64_t i = 0; i < kJobs; ++i)
    submitted.results.push_back({.id = a_job(i).id.str(), .state = {}, .error = {}});
  const Reply reply{make_req(1), submitted};
  for (auto _ : state)
    benchmark::DoNotOptimize(encode_reply(reply));
  per_job(state);
}

BENCHMARK(encode_submitted);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
