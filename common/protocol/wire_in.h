// Reading one message: a msgpack Reader that knows where it is, so that every error names its field
// ("jobs[3].priority"). Every read answers whether it went well; the first error is kept. Used by
// the codec only.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/job.h"
#include "common/protocol/messages.h"
#include "common/protocol/msgpack.h"
#include "common/result.h"

namespace sluice::wire {

class In {
 public:
  static constexpr std::size_t kKeysMax = 128;  // of a map with named keys
  static constexpr unsigned kDepthMax = 8;

  explicit In(std::string_view bytes) : reader_(bytes) {}

  // All three keep the first error at the present place and return false.
  bool fail(ErrorCode code, std::string_view detail);

  bool bad(std::string_view detail) { return fail(ErrorCode::bad_field, detail); }

  bool missing(std::string_view key);

  [[nodiscard]] bool failed() const { return failed_; }

  [[nodiscard]] Error take_error() { return std::move(error_); }

  // A map with named keys: calls `on_key(key)`, which reads the value. Refuses a key that comes
  // twice.
  template <typename OnKey>
  bool fields(OnKey&& on_key) {
    const auto count = reader_.map();
    if (!count) return bad("must be a map");
    if (*count > kKeysMax) return fail(ErrorCode::too_large, "has more than 128 keys");
    std::array<SeenKey, kKeysMax> seen_keys;  // not filled in first: this is on every job's path
    for (std::uint32_t i = 0; i < *count; ++i) {
      const auto key = reader_.str();
      if (!key) return fail(ErrorCode::malformed, "has a key that is no string");
      for (std::uint32_t j = 0; j < i; ++j)
        if (seen_keys[j].is(*key)) return within({*key}, [&] { return repeated(); });
      seen_keys[i] = {key->data(), key->size()};
      if (!within({*key}, [&] { return on_key(*key); })) return false;
    }
    return true;
  }

  // An array of `min` to `max` elements; `on_element()` reads one. `on_count(count)` comes before.
  template <typename OnCount, typename OnElement>
  bool elements(std::size_t min, std::size_t max, OnCount&& on_count, OnElement&& on_element) {
    const auto count = reader_.array();
    if (!count) return bad("must be an array");
    if (*count > max) return over("elements", max);
    if (*count < min) return bad("must not be empty");
    on_count(*count);
    for (std::uint32_t i = 0; i < *count; ++i)
      if (!within({{}, i}, on_element)) return false;
    return true;
  }

  // An array of values, each read by `read(value)`.
  template <typename T, typename Read>
  bool list(std::vector<T>& out, std::size_t min, std::size_t max, Read&& read) {
    return elements(
        min,
        max,
        [&](std::size_t count) { out.reserve(count); },
        [&] { return read(out.emplace_back()); });
  }

  bool skip();
  bool text(std::string& out, std::size_t bytes_max, std::size_t bytes_min = 0);
  bool bytes(std::string& out, std::size_t bytes_max);
  bool name(std::string& out);     // of a queue or a task
  bool node_id(std::string& out);  // name@life
  bool job_id(JobId& out);
  bool boolean(bool& out);
  bool real(double& out, double min, double max);
  bool headers(std::vector<Header>& out, std::size_t count_max);  // also labels
  bool job_ids(std::vector<JobId>& out, std::size_t min, std::size_t max);
  bool seen(Seen& out);

  template <std::integral T>
  bool number(T& out, T min, T max) {
    if constexpr (std::signed_integral<T>) {
      const auto value = reader_.integer();
      if (!value || *value < min || *value > max) return not_within(min, max);
      out = static_cast<T>(*value);
    } else {
      const auto value = reader_.unsigned_integer();
      if (!value || *value < min || *value > max) return not_within(min, max);
      out = static_cast<T>(*value);
    }
    return true;
  }

  // Any value of the type that is not negative.
  template <std::integral T>
  bool number(T& out) {
    return number(out, T{0}, std::numeric_limits<T>::max());
  }

  // A word of an enumeration, by its parse function.
  template <typename Enum, typename Parse>
  bool word(Enum& out, Parse&& parse, std::string_view words) {
    const auto text = reader_.str();
    const auto value = text ? parse(*text) : std::nullopt;
    if (!value) return bad(words);
    out = *value;
    return true;
  }

  [[nodiscard]] msgpack::Type peek() const { return reader_.peek(); }

  [[nodiscard]] std::optional<std::string_view> peek_text() const;

  // To go on behind a value that turned out to be wrong: mark() before it, recover() after.
  struct Mark {
    msgpack::Reader reader;
    std::size_t depth;
  };

  [[nodiscard]] Mark mark() const { return {reader_, depth_}; }

  Error recover(const Mark& mark);

  // Reads the value of `key` that was passed over in the map just read; `mark` was taken before it.
  template <typename Read>
  bool read_at(const Mark& mark, std::string_view key, Read&& read) {
    const msgpack::Reader here = std::exchange(reader_, mark.reader);
    const bool ok = within({key}, read);
    reader_ = here;
    return ok;
  }

 private:
  struct Step {
    std::string_view key;
    std::int64_t index = -1;
  };

  struct SeenKey {
    const char* data;
    std::size_t size;

    [[nodiscard]] bool is(std::string_view key) const {
      return size == key.size() && std::memcmp(data, key.data(), size) == 0;
    }
  };

  template <typename Read>
  bool within(Step step, Read&& read) {
    if (depth_ == path_.size()) return fail(ErrorCode::malformed, "is nested too deep");
    path_[depth_++] = step;
    if (!read()) return false;
    --depth_;
    return true;
  }

  [[nodiscard]] std::string path() const;
  bool over(std::string_view what, std::size_t max);

  bool not_within(auto min, auto max) {
    return bad("must be an integer from " + std::to_string(min) + " to " + std::to_string(max));
  }

  bool repeated() { return fail(ErrorCode::malformed, "comes twice"); }

  msgpack::Reader reader_;
  std::array<Step, std::size_t{2} * kDepthMax> path_;
  std::size_t depth_ = 0;
  bool failed_ = false;
  Error error_;
};

// What every message has at its top, found before the rest is read.
struct Envelope {
  std::string_view op;
  std::string_view req;  // msgpack bytes; empty when there is none
};

// Checks that the frame is one msgpack map in bounds, and finds `op`, `req` and a `protocol` that
// is ours. `envelope` holds what was found also when the rest is wrong.
[[nodiscard]] std::optional<Error> open_frame(std::string_view frame, Envelope& envelope);

// A key of the envelope, already read.
[[nodiscard]] inline bool is_envelope_key(std::string_view key) {
  return key == "op" || key == "req" || key == "protocol";
}

}  // namespace sluice::wire
