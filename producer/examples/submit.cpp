// Submit a job and wait for its end, in C++. Build: link sluice_client.
#include <cstdio>
#include <utility>

#include "producer/client.h"

int main() {
  sluice::Client client({});
  sluice::JobSpec job;
  job.task = "echo";
  job.payload = R"({"text": "hello"})";
  job.content_type = "application/json";
  auto accepted = client.submit(std::move(job));
  if (!accepted) return std::fprintf(stderr, "%s\n", accepted.error().message().c_str()), 1;
  auto ended = client.wait({sluice::JobId(accepted->id)}, 60'000);
  if (!ended || ended->ended.empty() || !ended->ended[0].job) return 1;
  std::printf("%s\n", ended->ended[0].job->result.c_str());
}
