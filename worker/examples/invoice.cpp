// A handler of your own types, and code around every handler. With this worker running,
//
//   sluice submit total --header tenant=acme '{"lines": [{"cents": 250, "count": 2}]}' --wait
//
// comes back as {"cents":500}.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "worker/sdk/typed.h"
#include "worker/sdk/worker.h"

namespace {

struct Line {
  std::int64_t cents = 0;
  std::int64_t count = 1;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Line, cents, count)
};

struct Invoice {
  std::vector<Line> lines;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Invoice, lines)
};

struct Total {
  std::int64_t cents = 0;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Total, cents)
};

Total total_of(const Invoice& invoice) {
  Total total;
  for (const Line& line : invoice.lines)
    total.cents += line.cents * line.count;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  sluice::Worker worker;
  worker.on("total", sluice::typed<Invoice>(total_of));
  worker.after([](sluice::Task& task, sluice::TaskOutcome& outcome) {
    const std::string word = outcome.is_completed ? "ok" : outcome.error_code;
    std::fprintf(stderr, "audit %s %s\n", std::string(task.id()).c_str(), word.c_str());
  });
  worker.before([](sluice::Task& task) {
    if (task.header("tenant").empty())
      throw sluice::TaskFailed("no_tenant", "the header `tenant` is missing", false);
  });
  return worker.run(argc, argv);
}
