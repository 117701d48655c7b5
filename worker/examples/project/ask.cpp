#include <iostream>

#include "producer/client.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::cerr << "usage: ask TEXT\n", 2;
  sluice::Client client({});
  const auto accepted =
      client.submit({.task = "count_words", .payload = argv[1], .content_type = "text/plain"});
  if (!accepted) return std::cerr << accepted.error().message() << '\n', 1;
  const auto answer = client.wait({sluice::JobId(accepted->id)}, 60'000);
  if (!answer) return std::cerr << answer.error().message() << '\n', 1;
  if (answer->ended.empty() || !answer->ended[0].job) return std::cerr << "no answer yet\n", 1;
  std::cout << answer->ended[0].job->result << '\n';
  return answer->ended[0].state == sluice::JobState::completed ? 0 : 1;
}
