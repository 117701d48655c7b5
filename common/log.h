// Logs of the shells: one line per event, `level event key=value ...` or JSON, to stderr, with UTC
// time. Event names are stable nouns or past participles (`job_failed`); ids are always logged,
// payloads and secrets never. Cores do not log.
//
//   log::info("job_failed", {{"job", id}, {"attempt", 3}});
//
// Thread-safe. Nothing here throws: a line that cannot be written is lost.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

namespace sluice::log {

enum class Level : unsigned char {
  debug,
  info,
  warn,
  error,
  off
};
enum class Format : unsigned char {
  logfmt,
  json
};

struct Options {
  Level level = Level::info;
  Format format = Format::logfmt;
  // Lines of one event name within a second; what is above is counted and reported as
  // `suppressed=K` in the first line of that name in a later second. 0 means no limit. Errors are
  // limited too.
  std::uint32_t repeats_per_second_max = 20;
};

// A value borrows its text until the call returns.
class Value {
 public:
  Value(std::string_view text) : value_(text) {}  // NOLINT(google-explicit-constructor)

  Value(const char* text)
      : value_(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)

  Value(const std::string& text) : value_(std::string_view(text)) {}  // NOLINT

  Value(bool flag) : value_(flag) {}  // NOLINT(google-explicit-constructor)

  Value(double number) : value_(number) {}  // NOLINT(google-explicit-constructor)

  template <std::signed_integral T>
  Value(T number) : value_(std::int64_t{number}) {}  // NOLINT(google-explicit-constructor)

  template <std::unsigned_integral T>

  requires(!std::same_as<T, bool>) Value(T number)
      : value_(std::uint64_t{number}) {}  // NOLINT(google-explicit-constructor)

  using Variant = std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool>;

  [[nodiscard]] const Variant& get() const { return value_; }

 private:
  Variant value_;
};

struct Field {
  std::string_view key;
  Value value;
};

using Fields = std::initializer_list<Field>;

// Call once before other threads log. Before it, the defaults above hold.
void set_up(const Options& options) noexcept;

// Reads "debug" ... "off" and "logfmt"/"json"; false leaves `target` as it was. The option table
// already refuses other words (choice).
bool parse_level(std::string_view text, Level& target) noexcept;
bool parse_format(std::string_view text, Format& target) noexcept;

// Whether a line of this level would be written: to skip costly fields.
[[nodiscard]] bool is_on(Level level) noexcept;

void write(Level level, std::string_view event, Fields fields) noexcept;

inline void debug(std::string_view event, Fields fields = {}) noexcept {
  write(Level::debug, event, fields);
}

inline void info(std::string_view event, Fields fields = {}) noexcept {
  write(Level::info, event, fields);
}

inline void warn(std::string_view event, Fields fields = {}) noexcept {
  write(Level::warn, event, fields);
}

inline void error(std::string_view event, Fields fields = {}) noexcept {
  write(Level::error, event, fields);
}

// The line of one event without its time, pure; what tests and write() use.
[[nodiscard]] std::string format_line(Format format,
                                      Level level,
                                      std::string_view event,
                                      Fields fields);

// Decides which repeats are written; pure, time is an argument. Keeps at most kNamesMax names; a
// name beyond them is never held back. Not thread-safe.
class RepeatLimit {
 public:
  static constexpr std::size_t kNamesMax = 1024;

  explicit RepeatLimit(std::uint32_t per_second_max);
  ~RepeatLimit();
  RepeatLimit(const RepeatLimit&) = delete;
  RepeatLimit& operator=(const RepeatLimit&) = delete;

  struct Verdict {
    bool is_written = true;
    std::uint64_t suppressed_count = 0;  // held back since the last line of this name
  };

  [[nodiscard]] Verdict admit(std::string_view event, std::int64_t mono_ms);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::log
