#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "common/utf8.h"

namespace sluice::log {

namespace {

constexpr std::string_view kLevelNames[] = {"debug", "info", "warn", "error", "off"};
constexpr std::size_t kLineBytesMax = std::size_t{16} * 1024;

std::string_view name_of(Level level) {
  return kLevelNames[static_cast<std::size_t>(level)];
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
    case Level::off:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

bool is_control(unsigned char c) {
  return c < 0x20 || c == 0x7f;
}

// Logfmt: a value is quoted when a reader could not tell where it ends. Bytes above 0x7f pass as
// they are: names of people and files stay readable.
bool needs_quotes(std::string_view text) {
  if (text.empty()) return true;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == ' ' || byte == '"' || byte == '=' || byte == '\\' || is_control(byte)) return true;
  }
  return false;
}

// The escapes are those of JSON, so both formats share them.
void append_quoted(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (is_control(byte)) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

// Neither format may carry bytes that a reader of UTF-8 stops at.
std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = utf8_character(text);
    out.append(bytes == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, bytes));
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return out;
}

void append_text(std::string& out, Format format, std::string_view raw) {
  const std::string text = to_valid_utf8(raw.substr(0, kLineBytesMax));
  if (format == Format::json || needs_quotes(text)) {
    append_quoted(out, text);
  } else {
    out += text;
  }
}

void append_value(std::string& out, Format format, const Value& value) {
  std::visit(
      [&](const auto& held) {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          append_text(out, format, held);
        } else if constexpr (std::is_same_v<T, bool>) {
          out += held ? "true" : "false";
        } else if constexpr (std::is_same_v<T, double>) {
          // JSON has no word for what is not a number.
          out += std::isfinite(held) || format == Format::logfmt ? fmt::format("{}", held) : "null";
        } else {
          out += fmt::format("{}", held);
        }
      },
      value.get());
}

void append_field(std::string& out, Format format, std::string_view key, const Value& value) {
  if (format == Format::json) {
    out += ',';
    append_quoted(out, to_valid_utf8(key));
    out += ':';
  } else {
    out += ' ';
    out += key;
    out += '=';
  }
  append_value(out, format, value);
}

// `mutex` guards `limit`. The logger is made once and never replaced, so that a thread in the
// middle of a line never loses it.
struct Writer {
  std::atomic<Level> level = Level::info;
  std::atomic<Format> format = Format::logfmt;
  std::mutex mutex;
  std::unique_ptr<RepeatLimit> limit =
      std::make_unique<RepeatLimit>(Options{}.repeats_per_second_max);
  std::shared_ptr<spdlog::logger> logger =
      std::make_shared<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stderr_sink_mt>());

  Writer() {
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
    // What fails inside spdlog is lost in silence: there is no better place to say it.
    logger->set_error_handler([](const std::string&) {});
    use(Format::logfmt);
  }

  void use(Format wanted) {
    format = wanted;
    const char* pattern = wanted == Format::json ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",%v"
                                                 : "%Y-%m-%dT%H:%M:%S.%eZ %v";
    logger->set_pattern(pattern, spdlog::pattern_time_type::utc);
  }
};

// Never destroyed: a thread that outlives main() may still log.
Writer& writer() {
  static auto* const instance = new Writer;
  return *instance;
}

std::int64_t mono_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

}  // namespace

std::string format_line(Format format, Level level, std::string_view event, Fields fields) {
  std::string line;
  if (format == Format::json) {
    line += "{\"level\":";
    append_quoted(line, name_of(level));
    line += ",\"event\":";
    append_quoted(line, to_valid_utf8(event));
  } else {
    line += name_of(level);
    line += ' ';
    line += event;
  }
  for (const Field& field : fields)
    append_field(line, format, field.key, field.value);
  if (format == Format::json) line += '}';
  return line;
}

void set_up(const Options& options) noexcept {
  try {
    Writer& target = writer();
    const std::lock_guard lock(target.mutex);
    target.limit = std::make_unique<RepeatLimit>(options.repeats_per_second_max);
    target.level = options.level;
    target.use(options.format);
  } catch (...) {  // NOLINT(bugprone-empty-catch): the defaults go on holding
  }
}

bool parse_level(std::string_view text, Level& target) noexcept {
  for (std::size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (kLevelNames[i] != text) continue;
    target = static_cast<Level>(i);
    return true;
  }
  return false;
}

bool parse_format(std::string_view text, Format& target) noexcept {
  if (text != "json" && text != "logfmt") return false;
  target = text == "json" ? Format::json : Format::logfmt;
  return true;
}

bool is_on(Level level) noexcept {
  return level != Level::off && level >= writer().level.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view event, Fields fields) noexcept {
  try {
    if (!is_on(level)) return;
    Writer& target = writer();
    RepeatLimit::Verdict verdict;
    {
      const std::lock_guard lock(target.mutex);
      verdict = target.limit->admit(event, mono_ms());
    }
    if (!verdict.is_written) return;
    const Format format = target.format;
    std::string line = format_line(format, level, event, fields);
    if (verdict.suppressed_count > 0) {
      if (format == Format::json) line.pop_back();
      append_field(line, format, "suppressed", verdict.suppressed_count);
      if (format == Format::json) line += '}';
    }
    // As a string_view the line is text, never a format.
    // In JSON the pattern has written the opening brace.
    const std::string_view text = line;
    target.logger->log(to_spdlog(level), format == Format::json ? text.substr(1) : text);
  } catch (...) {  // NOLINT(bugprone-empty-catch): a line that cannot be written is lost
  }
}

struct RepeatLimit::Impl {
  struct Name {
    std::int64_t second = 0;
    std::uint32_t written_count = 0;
    std::uint64_t suppressed_count = 0;
  };

  std::uint32_t per_second_max;
  std::unordered_map<std::string, Name> names;
};

RepeatLimit::RepeatLimit(std::uint32_t per_second_max)
    : impl_(std::make_unique<Impl>(Impl{per_second_max, {}})) {}

RepeatLimit::~RepeatLimit() = default;

RepeatLimit::Verdict RepeatLimit::admit(std::string_view event, std::int64_t mono_ms) {
  if (impl_->per_second_max == 0) return {};
  const std::string key(event);
  if (impl_->names.size() >= kNamesMax && !impl_->names.contains(key)) return {};
  Impl::Name& name = impl_->names[key];
  const std::int64_t second = mono_ms / 1000;
  if (name.second != second) {
    name.second = second;
    name.written_count = 0;
  }
  if (name.written_count >= impl_->per_second_max) {
    ++name.suppressed_count;
    return {.is_written = false, .suppressed_count = 0};
  }
  ++name.written_count;
  return {.is_written = true, .suppressed_count = std::exchange(name.suppressed_count, 0)};
}

}  // namespace sluice::log
