// The text of functions/sluice.lua, put into the program when it is built.
#pragma once

#include <string_view>

namespace sluice {

[[nodiscard]] std::string_view function_library();

}  // namespace sluice
