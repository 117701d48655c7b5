// scenario_tests [--rewrite] FILE...: plays each story and compares what was seen with what is
// written under its steps. Exit 0: the same; 1: a difference, told as a unified diff; 2: a file
// that can not be read as a story, told as file:line.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "tests/scenarios/commands.h"
#include "tests/scenarios/diff.h"
#include "tests/scenarios/stage.h"
#include "tests/scenarios/story.h"

namespace sluice::scenarios {
namespace {

constexpr int kExitDifferent = 1;
constexpr int kExitMalformed = 2;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw StoryError(" the file can not be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The blocks with what was seen under each step. Throws StoryError with the line in front.
std::vector<Block> play(std::vector<Block> blocks) {
  Stage stage;
  std::size_t line = 1;
  for (Block& block : blocks) {
    if (!block.is_step) continue;
    line = block.line;
    try {
      do_step(stage, block.text, block.line);
    } catch (const StoryError& error) {
      throw StoryError(std::to_string(block.line) + ": " + error.what());
    }
    block.expected = stage.take_lines();
  }
  if (const std::string who = stage.unanswered(); !who.empty())
    throw StoryError(std::to_string(line) + ": the story ends and nobody has answered " + who);
  return blocks;
}

int run_story(const std::string& path, bool rewrites) {
  try {
    const std::vector<Block> blocks = parse_story(read_file(path));
    const std::string expected = render_story(blocks);
    const std::string seen = render_story(play(blocks));
    if (expected == seen) return 0;
    if (rewrites) {
      std::ofstream(path, std::ios::binary) << seen;
      std::printf("%s: rewritten\n", path.c_str());
      return 0;
    }
    std::printf("%s\n(--rewrite takes what was seen as what is expected)\n",
                unified_diff(path, expected, seen).c_str());
    return kExitDifferent;
  } catch (const StoryError& error) {
    std::fprintf(stderr, "%s:%s\n", path.c_str(), error.what());
    return kExitMalformed;
  }
}

}  // namespace
}  // namespace sluice::scenarios

int main(int argc, char** argv) {
  bool rewrites = false;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--rewrite")
      rewrites = true;
    else
      files.emplace_back(argument);
  }
  if (files.empty()) {
    std::fprintf(stderr, "usage: scenario_tests [--rewrite] FILE...\n");
    return sluice::scenarios::kExitMalformed;
  }
  int worst = 0;
  for (const std::string& file : files)
    worst = std::max(worst, sluice::scenarios::run_story(file, rewrites));
  return worst;
}
