// How option values are written: pure text, shared by flags, environment and file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// Each returns nothing for text that is not wholly such a value or does not fit 64 bits.
[[nodiscard]] std::optional<bool> read_bool(std::string_view text);
[[nodiscard]] std::optional<std::int64_t> read_integer(std::string_view text);
[[nodiscard]] std::optional<std::int64_t> read_duration_ms(std::string_view text);
[[nodiscard]] std::optional<std::int64_t> read_bytes(std::string_view text);

// The shortest exact form that the readers take back: `3s`, `1500ms`, `512MiB`.
[[nodiscard]] std::string show_duration_ms(std::int64_t value_ms);
[[nodiscard]] std::string show_bytes(std::int64_t value_bytes);

// "a,b" as two texts; spaces around a text are dropped, empty texts too.
[[nodiscard]] std::vector<std::string> split_by_commas(std::string_view text);

// `redis://user:secret@host` as `redis://user:***@host`; other text as it is.
[[nodiscard]] std::string without_password(std::string_view text);

// The name with the fewest edits from `wrong`, or empty when none is near enough to be meant.
[[nodiscard]] std::string nearest_name(std::string_view wrong, std::span<const std::string> names);

}  // namespace sluice
