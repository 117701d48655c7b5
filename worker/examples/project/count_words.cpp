#include <sstream>
#include <string>

#include "worker/sdk/worker.h"

int main(int argc, char** argv) {
  sluice::Worker worker;
  worker.on("count_words", [](sluice::Task& task) {
    std::istringstream text(task.payload());
    int count = 0;
    for (std::string word; text >> word;)
      ++count;
    return std::to_string(count);
  });
  return worker.run(argc, argv);
}
