#include "common/protocol/msgpack.h"

#include <bit>

namespace sluice::msgpack {

// ---------------------------------------------------------------- writing

void Writer::big_endian(std::uint64_t value, unsigned bytes) {
  char buffer[8];
  for (unsigned i = 0; i < bytes; ++i)
    buffer[i] = static_cast<char>(value >> (8 * (bytes - 1 - i)));
  out_.append(buffer, bytes);
}

void Writer::unsigned_integer(std::uint64_t value) {
  if (value < 0x80) return byte(static_cast<unsigned>(value));
  if (value <= 0xff) {
    byte(0xcc);
    big_endian(value, 1);
  } else if (value <= 0xffff) {
    byte(0xcd);
    big_endian(value, 2);
  } else if (value <= 0xffffffff) {
    byte(0xce);
    big_endian(value, 4);
  } else {
    byte(0xcf);
    big_endian(value, 8);
  }
}

void Writer::integer(std::int64_t value) {
  if (value >= 0) return unsigned_integer(static_cast<std::uint64_t>(value));
  const auto bits = static_cast<std::uint64_t>(value);
  if (value >= -32) return byte(static_cast<unsigned>(bits & 0xff));
  if (value >= INT8_MIN) {
    byte(0xd0);
    big_endian(bits, 1);
  } else if (value >= INT16_MIN) {
    byte(0xd1);
    big_endian(bits, 2);
  } else if (value >= INT32_MIN) {
    byte(0xd2);
    big_endian(bits, 4);
  } else {
    byte(0xd3);
    big_endian(bits, 8);
  }
}

void Writer::real(double value) {
  byte(0xcb);
  big_endian(std::bit_cast<std::uint64_t>(value), 8);
}

void Writer::str(std::string_view text) {
  const std::size_t size = text.size();
  if (size < 32) {
    byte(0xa0 | static_cast<unsigned>(size));
  } else if (size <= 0xff) {
    byte(0xd9);
    big_endian(size, 1);
  } else if (size <= 0xffff) {
    byte(0xda);
    big_endian(size, 2);
  } else {
    byte(0xdb);
    big_endian(size, 4);
  }
  out_.append(text);
}

void Writer::bin(std::string_view bytes) {
  const std::size_t size = bytes.size();
  if (size <= 0xff) {
    byte(0xc4);
    big_endian(size, 1);
  } else if (size <= 0xffff) {
    byte(0xc5);
    big_endian(size, 2);
  } else {
    byte(0xc6);
    big_endian(size, 4);
  }
  out_.append(bytes);
}

void Writer::array(std::size_t count) {
  if (count < 16) return byte(0x90 | static_cast<unsigned>(count));
  if (count <= 0xffff) {
    byte(0xdc);
    big_endian(count, 2);
  } else {
    byte(0xdd);
    big_endian(count, 4);
  }
}

void Writer::map(std::size_t count) {
  if (count < 16) return byte(0x80 | static_cast<unsigned>(count));
  if (count <= 0xffff) {
    byte(0xde);
    big_endian(count, 2);
  } else {
    byte(0xdf);
    big_endian(count, 4);
  }
}

// ---------------------------------------------------------------- reading

std::optional<std::uint64_t> Reader::big_endian(std::size_t offset, unsigned bytes) const {
  if (bytes_.size() - position_ < offset + bytes) return std::nullopt;
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes_[position_ + offset + i]);
  return value;
}

// A head behind whose first byte stands a size or a number, or that has no value. `invalid`: cut
// off, or an extension type.
Reader::Head Reader::long_head(unsigned first) const {
  const auto fixed = [](Type type, std::uint64_t value) {
    return Head{type, 1, value, false};
  };
  const auto sized = [&](Type type, unsigned bytes) -> Head {
    const auto value = big_endian(1, bytes);
    if (!value) return {};
    return {type, 1 + bytes, *value, false};
  };
  const auto negative = [&](unsigned bytes) -> Head {
    const auto value = big_endian(1, bytes);
    if (!value) return {};
    const unsigned shift = 64 - 8 * bytes;
    const auto wide = static_cast<std::int64_t>(*value << shift) >> shift;
    return {Type::integer, 1 + bytes, static_cast<std::uint64_t>(wide), wide < 0};
  };
  if (first >= 0xe0)
    return {Type::integer,
            1,
            static_cast<std::uint64_t>(static_cast<std::int64_t>(first) - 256),
            true};
  switch (first) {
    case 0xc0:
      return fixed(Type::nil, 0);
    case 0xc2:
      return fixed(Type::boolean, 0);
    case 0xc3:
      return fixed(Type::boolean, 1);
    case 0xc4:
      return sized(Type::bin, 1);
    case 0xc5:
      return sized(Type::bin, 2);
    case 0xc6:
      return sized(Type::bin, 4);
    case 0xca:
      return sized(Type::real, 4);
    case 0xcb:
      return sized(Type::real, 8);
    case 0xcc:
      return sized(Type::integer, 1);
    case 0xcd:
      return sized(Type::integer, 2);
    case 0xce:
      return sized(Type::integer, 4);
    case 0xcf:
      return sized(Type::integer, 8);
    case 0xd0:
      return negative(1);
    case 0xd1:
      return negative(2);
    case 0xd2:
      return negative(4);
    case 0xd3:
      return negative(8);
    case 0xd9:
      return sized(Type::str, 1);
    case 0xda:
      return sized(Type::str, 2);
    case 0xdb:
      return sized(Type::str, 4);
    case 0xdc:
      return sized(Type::array, 2);
    case 0xdd:
      return sized(Type::array, 4);
    case 0xde:
      return sized(Type::map, 2);
    case 0xdf:
      return sized(Type::map, 4);
    default:
      return {};
  }
}

Type Reader::peek() const {
  return head().type;
}

bool Reader::nil() {
  if (head().type != Type::nil) return false;
  ++position_;
  return true;
}

std::optional<bool> Reader::boolean() {
  const Head next = head();
  if (next.type != Type::boolean) return std::nullopt;
  ++position_;
  return next.value == 1;
}

std::optional<std::int64_t> Reader::integer() {
  const Head next = head();
  if (next.type != Type::integer) return std::nullopt;
  if (!next.is_negative && next.value > INT64_MAX) return std::nullopt;
  position_ += next.head_bytes;
  return static_cast<std::int64_t>(next.value);
}

std::optional<std::uint64_t> Reader::unsigned_integer() {
  const Head next = head();
  if (next.type != Type::integer || next.is_negative) return std::nullopt;
  position_ += next.head_bytes;
  return next.value;
}

std::optional<double> Reader::real() {
  const Head next = head();
  if (next.type == Type::integer) {
    position_ += next.head_bytes;
    return next.is_negative ? static_cast<double>(static_cast<std::int64_t>(next.value))
                            : static_cast<double>(next.value);
  }
  if (next.type != Type::real) return std::nullopt;
  position_ += next.head_bytes;
  if (next.head_bytes == 5)
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(next.value)));
  return std::bit_cast<double>(next.value);
}

std::optional<std::uint32_t> Reader::container(Type type) {
  const Head next = head();
  if (next.type != type) return std::nullopt;
  const std::uint64_t entries_bytes = type == Type::map ? 2 * next.value : next.value;
  if (left_behind(next) < entries_bytes) {  // each takes a byte at least
    failed_ = true;
    return std::nullopt;
  }
  position_ += next.head_bytes;
  return static_cast<std::uint32_t>(next.value);
}

std::optional<std::uint32_t> Reader::array() {
  return container(Type::array);
}

std::optional<std::uint32_t> Reader::map() {
  return container(Type::map);
}

// Passes over `count` values, containers in them at most `depth` levels deep.
bool Reader::pass(std::uint64_t count, unsigned depth) {
  for (; count > 0; --count) {
    const Head next = head();
    switch (next.type) {
      case Type::invalid:
        return false;
      case Type::str:
      case Type::bin:
        if (left_behind(next) < next.value) return false;
        position_ += next.head_bytes + next.value;
        break;
      case Type::array:
      case Type::map:
        if (depth == 0) return false;
        position_ += next.head_bytes;
        if (!pass(next.type == Type::map ? 2 * next.value : next.value, depth - 1)) return false;
        break;
      default:
        position_ += next.head_bytes;
    }
  }
  return true;
}

std::optional<std::string_view> Reader::skip(unsigned depth) {
  const std::size_t begin = position_;
  if (!pass(1, depth)) {
    failed_ = true;
    return std::nullopt;
  }
  return bytes_.substr(begin, position_ - begin);
}

}  // namespace sluice::msgpack
