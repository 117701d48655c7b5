// The `sluice` command of the tests, run in their own process.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "producer/cli/cli.h"

namespace sluice::test {

struct Ended {
  int code = 0;
  std::string out, err;
};

// One command to its end. Takes the process's stdout and stderr meanwhile: one at a time.
inline Ended sluice(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "sluice");
  std::vector<const char*> argv;
  for (const std::string& argument : arguments)
    argv.push_back(argument.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ended result;
  result.code = cli::run(static_cast<int>(argv.size()), argv.data());
  result.out = testing::internal::GetCapturedStdout();
  result.err = testing::internal::GetCapturedStderr();
  return result;
}

}  // namespace sluice::test
