// How deep a document is nested, before a library reads it: nlohmann::json reads nested msgpack,
// and writes and converts whatever is nested, by recursion, and a megabyte of `[` would end the
// stack.
#pragma once

#include <cstddef>
#include <string_view>

namespace sluice {

// Whether a text, if it is JSON, is at most so many levels deep; [] is one.
[[nodiscard]] bool is_json_within(std::string_view text, std::size_t depth_max);

// The same of msgpack; also false of bytes that end within a value. (msgpack::Reader::skip()
// refuses extension types, which no message of ours has and a payload may have.)
[[nodiscard]] bool is_msgpack_within(std::string_view text, std::size_t depth_max);

}  // namespace sluice
