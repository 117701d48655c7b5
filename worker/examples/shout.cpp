// A worker of your own: `sluice submit shout hello` comes back as HELLO.
#include <algorithm>
#include <cctype>

#include "worker/sdk/worker.h"

namespace {

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) {
    return static_cast<char>(std::toupper(c));
  });
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  sluice::Worker worker;
  worker.on("shout", [](sluice::Task& task) { return upper(task.payload()); });
  return worker.run(argc, argv);
}
