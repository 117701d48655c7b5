// Messages of the protocol written as JSON, for tests that put wrong things into them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace sluice::test {

using WireJson = nlohmann::ordered_json;

inline WireJson bin(const std::string& bytes) {
  return WireJson::binary({bytes.begin(), bytes.end()});
}

// JSON as text (nested braces of nlohmann take minutes to compile), where "bin:x" is the bytes x.
inline WireJson js(const char* text) {
  const auto take = [](int, WireJson::parse_event_t event, WireJson& value) {
    if (event != WireJson::parse_event_t::value || !value.is_string()) return true;
    const auto bytes = value.get<std::string>();
    if (bytes.starts_with("bin:")) value = bin(bytes.substr(4));
    return true;
  };
  return WireJson::parse(text, take);
}

inline std::string packed(const WireJson& json) {
  const std::vector<std::uint8_t> bytes = WireJson::to_msgpack(json);
  return {bytes.begin(), bytes.end()};
}

}  // namespace sluice::test
