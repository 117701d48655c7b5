// The verbs of a story: README.md lists them.
#pragma once

#include <cstddef>
#include <string_view>

#include "tests/scenarios/stage.h"

namespace sluice::scenarios {

// Does one step on the stage. Throws StoryError for a step that can not be meant.
void do_step(Stage& stage, std::string_view step, std::size_t line);

}  // namespace sluice::scenarios
