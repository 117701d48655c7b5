// msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md), as much of it as the wire and
// the log use: nil, bool, integers, float64, str, bin, array, map. Our own because it stands on the
// path of every job: the writer appends to a string, the reader walks the bytes and copies nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::msgpack {

class Writer {
 public:
  // `out` must outlive the writer; everything is appended to it.
  explicit Writer(std::string& out) : out_(out) {}

  void nil() { byte(0xc0); }

  void boolean(bool value) { byte(value ? 0xc3 : 0xc2); }

  void integer(std::int64_t value);
  void unsigned_integer(std::uint64_t value);
  void real(double value);
  void str(std::string_view text);
  void bin(std::string_view bytes);
  void array(std::size_t count);
  void map(std::size_t count);

  // Bytes that are msgpack already.
  void raw(std::string_view bytes) { out_.append(bytes); }

 private:
  void byte(unsigned value) { out_.push_back(static_cast<char>(value)); }

  void big_endian(std::uint64_t value, unsigned bytes);

  std::string& out_;
};

enum class Type : std::uint8_t {
  nil,
  boolean,
  integer,
  real,
  str,
  bin,
  array,
  map,
  invalid
};

// Walks one document. Every read checks that the bytes are there; the first failure is kept, and
// after it every read fails, so that a caller may read on and look at ok() once. Nothing is
// allocated.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ok() const { return !failed_; }

  [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }

  [[nodiscard]] std::size_t position() const { return position_; }

  // The bytes passed since an earlier position().
  [[nodiscard]] std::string_view since(std::size_t begin) const {
    return bytes_.substr(begin, position_ - begin);
  }

  [[nodiscard]] Type peek() const;

  // Nothing when the next value is of another type; then it is not consumed.
  std::optional<bool> boolean();
  // Any integer that fits: a negative one is no unsigned, 2^63 and above is no signed.
  std::optional<std::int64_t> integer();
  std::optional<std::uint64_t> unsigned_integer();
  std::optional<double> real();  // takes integers too

  std::optional<std::string_view> str() { return blob(Type::str); }

  std::optional<std::string_view> bin() { return blob(Type::bin); }

  std::optional<std::uint32_t> array();  // the count; at most the bytes that are left
  std::optional<std::uint32_t> map();
  bool nil();
  // Passes over one value, at most `depth` levels deep. Its bytes, or nothing where it is malformed
  // (an extension type, too deep, cut off).
  std::optional<std::string_view> skip(unsigned depth = 8);

 private:
  struct Head {
    Type type = Type::invalid;
    unsigned head_bytes = 0;   // with the size or the value
    std::uint64_t value = 0;   // count, size, or the bits of the number
    bool is_negative = false;  // integer: value is a two's complement
  };

  // Most heads are one byte, or two of a string: those are read inline, on the path of every job.
  [[nodiscard]] Head head() const {
    if (failed_ || position_ >= bytes_.size()) return {};
    const auto first = static_cast<unsigned char>(bytes_[position_]);
    if (first < 0x80) return {Type::integer, 1, first, false};
    if (first < 0x90) return {Type::map, 1, first & 0x0fU, false};
    if (first < 0xa0) return {Type::array, 1, first & 0x0fU, false};
    if (first < 0xc0) return {Type::str, 1, first & 0x1fU, false};
    return long_head(first);
  }

  [[nodiscard]] Head long_head(unsigned first) const;
  [[nodiscard]] std::optional<std::uint64_t> big_endian(std::size_t offset, unsigned bytes) const;

  [[nodiscard]] std::size_t left_behind(const Head& next) const {
    return bytes_.size() - position_ - next.head_bytes;
  }

  std::optional<std::string_view> blob(Type type) {
    const Head next = head();
    if (next.type != type) return std::nullopt;
    if (left_behind(next) < next.value) {
      failed_ = true;
      return std::nullopt;
    }
    const std::string_view bytes(bytes_.data() + position_ + next.head_bytes, next.value);
    position_ += next.head_bytes + next.value;
    return bytes;
  }

  std::optional<std::uint32_t> container(Type type);
  bool pass(std::uint64_t count, unsigned depth);

  std::string_view bytes_;
  std::size_t position_ = 0;
  bool failed_ = false;
};

}  // namespace sluice::msgpack
