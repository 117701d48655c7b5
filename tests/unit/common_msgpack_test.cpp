// Our msgpack against msgpack-cxx, both ways, over random documents and every edge of the format.
#include <rapidcheck.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <msgpack.hpp>

#include "common/protocol/msgpack.h"

// The library's names live in ::msgpack, ours in ::sluice::msgpack.
namespace oracle = ::msgpack;

namespace sluice::common_msgpack_test {
namespace {

using sluice::msgpack::Reader;
using sluice::msgpack::Type;
using sluice::msgpack::Writer;

// A document without a library: what both sides must agree on.
struct Value {
  Type type = Type::nil;
  bool boolean = false;
  bool is_negative = false;
  std::int64_t integer = 0;
  std::uint64_t unsigned_integer = 0;
  double real = 0;
  std::string bytes{};
  std::vector<Value> items{};  // array: values; map: key, value, key, value
};

Value value_of(const oracle::object& object) {
  Value value;
  const auto leaf = [&](Type type) {
    value.type = type;
  };
  switch (object.type) {
    case oracle::type::NIL:
      break;
    case oracle::type::BOOLEAN:
      leaf(Type::boolean), value.boolean = object.via.boolean;
      break;
    case oracle::type::POSITIVE_INTEGER:
      leaf(Type::integer), value.unsigned_integer = object.via.u64;
      break;
    case oracle::type::NEGATIVE_INTEGER:
      leaf(Type::integer), value.is_negative = true, value.integer = object.via.i64;
      break;
    case oracle::type::FLOAT32:
    case oracle::type::FLOAT64:
      leaf(Type::real), value.real = object.via.f64;
      break;
    case oracle::type::STR:
      leaf(Type::str), value.bytes.assign(object.via.str.ptr, object.via.str.size);
      break;
    case oracle::type::BIN:
      leaf(Type::bin), value.bytes.assign(object.via.bin.ptr, object.via.bin.size);
      break;
    case oracle::type::ARRAY:
      leaf(Type::array);
      for (std::uint32_t i = 0; i < object.via.array.size; ++i)
        value.items.push_back(value_of(object.via.array.ptr[i]));
      break;
    case oracle::type::MAP:
      leaf(Type::map);
      for (std::uint32_t i = 0; i < object.via.map.size; ++i) {
        value.items.push_back(value_of(object.via.map.ptr[i].key));
        value.items.push_back(value_of(object.via.map.ptr[i].val));
      }
      break;
    default:
      leaf(Type::invalid);
  }
  return value;
}

Value read(Reader& in) {
  Value value{.type = in.peek()};
  switch (value.type) {
    case Type::nil:
      EXPECT_TRUE(in.nil());
      break;
    case Type::boolean:
      value.boolean = in.boolean().value();
      break;
    case Type::integer:
      if (const auto number = in.unsigned_integer()) {
        value.unsigned_integer = *number;
      } else {
        value.is_negative = true;
        value.integer = in.integer().value();
      }
      break;
    case Type::real:
      value.real = in.real().value();
      break;
    case Type::str:
      value.bytes = in.str().value();
      break;
    case Type::bin:
      value.bytes = in.bin().value();
      break;
    case Type::array:
      for (std::uint32_t left = in.array().value(); left > 0; --left)
        value.items.push_back(read(in));
      break;
    case Type::map:
      for (std::uint32_t left = in.map().value(); left > 0; --left) {
        value.items.push_back(read(in));
        value.items.push_back(read(in));
      }
      break;
    case Type::invalid:
      ADD_FAILURE() << "invalid at " << in.position();
  }
  return value;
}

// Both writers have the same calls under other names.
void write(const Value& value, Writer& out) {
  switch (value.type) {
    case Type::boolean:
      return out.boolean(value.boolean);
    case Type::integer:
      return value.is_negative ? out.integer(value.integer)
                               : out.unsigned_integer(value.unsigned_integer);
    case Type::real:
      return out.real(value.real);
    case Type::str:
      return out.str(value.bytes);
    case Type::bin:
      return out.bin(value.bytes);
    case Type::array:
      out.array(value.items.size());
      break;
    case Type::map:
      out.map(value.items.size() / 2);
      break;
    default:
      return out.nil();
  }
  for (const Value& item : value.items)
    write(item, out);
}

void write(const Value& value, oracle::packer<std::stringstream>& out) {
  const auto size = static_cast<std::uint32_t>(value.bytes.size());
  const auto count = static_cast<std::uint32_t>(value.items.size());
  switch (value.type) {
    case Type::boolean:
      out.pack(value.boolean);
      return;
    case Type::integer:
      if (value.is_negative)
        out.pack(value.integer);
      else
        out.pack(value.unsigned_integer);
      return;
    case Type::real:
      out.pack(value.real);
      return;
    case Type::str:
      out.pack_str(size).pack_str_body(value.bytes.data(), size);
      return;
    case Type::bin:
      out.pack_bin(size).pack_bin_body(value.bytes.data(), size);
      return;
    case Type::array:
      out.pack_array(count);
      break;
    case Type::map:
      out.pack_map(count / 2);
      break;
    default:
      out.pack_nil();
      return;
  }
  for (const Value& item : value.items)
    write(item, out);
}

std::string ours(const Value& value) {
  std::string bytes{};
  Writer writer(bytes);
  write(value, writer);
  return bytes;
}

std::string theirs(const Value& value) {
  std::stringstream bytes;
  oracle::packer<std::stringstream> packer(bytes);
  write(value, packer);
  return bytes.str();
}

bool is_same(const Value& a, const Value& b) {
  if (a.type != b.type || a.boolean != b.boolean || a.is_negative != b.is_negative) return false;
  if (a.integer != b.integer || a.unsigned_integer != b.unsigned_integer) return false;
  const bool is_same_real = a.real == b.real || (std::isnan(a.real) && std::isnan(b.real));
  if (!is_same_real || a.bytes != b.bytes || a.items.size() != b.items.size()) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!is_same(a.items[i], b.items[i])) return false;
  return true;
}

// Written the same by both, and read back as what it was by both.
void agree(const Value& value) {
  const std::string bytes = ours(value);
  ASSERT_EQ(bytes, theirs(value));
  Reader reader(bytes);
  EXPECT_TRUE(is_same(read(reader), value));
  EXPECT_TRUE(reader.ok() && reader.at_end());
  Reader skipper(bytes);
  EXPECT_EQ(skipper.skip(), std::string_view(bytes));
  const auto handle = oracle::unpack(bytes.data(), bytes.size());
  EXPECT_TRUE(is_same(value_of(handle.get()), value));
}

Value integer(std::int64_t number) {
  if (number < 0) return {.type = Type::integer, .is_negative = true, .integer = number};
  return {.type = Type::integer, .unsigned_integer = static_cast<std::uint64_t>(number)};
}

// ---------------------------------------------------------------- the edges

TEST(Msgpack, integers_agree_around_every_power_of_two) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    for (const std::uint64_t near : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}}) {
      const std::uint64_t number = (std::uint64_t{1} << bit) - 1 + near;
      agree({.type = Type::integer, .unsigned_integer = number});
      const auto negative = static_cast<std::int64_t>(~number);  // -1 - number
      if (negative < 0) agree(integer(negative));
    }
  }
  agree(integer(std::numeric_limits<std::int64_t>::min()));
  agree({.type = Type::integer, .unsigned_integer = std::numeric_limits<std::uint64_t>::max()});
}

TEST(Msgpack, sizes_agree_around_every_head) {
  for (const std::size_t size : {0, 1, 15, 16, 31, 32, 255, 256, 65'535, 65'536}) {
    agree({.type = Type::str, .bytes = std::string(size, 'a')});
    agree({.type = Type::bin, .bytes = std::string(size, '\xff')});
    if (size > 256) continue;
    agree({.type = Type::array, .items = std::vector<Value>(size)});
    agree({.type = Type::map, .items = std::vector<Value>(2 * size)});
  }
}

// The great ones by their heads, with nothing but nil inside: a tree of so many values takes
// seconds.
TEST(Msgpack, heads_of_great_arrays_and_maps_agree) {
  for (const std::uint32_t count : {65'535U, 65'536U, 1'000'000U}) {
    std::string array{}, map{};
    Writer(array).array(count);
    Writer(map).map(count);
    std::stringstream their_array, their_map;
    oracle::packer<std::stringstream>(their_array).pack_array(count);
    oracle::packer<std::stringstream>(their_map).pack_map(count);
    EXPECT_EQ(array, their_array.str());
    EXPECT_EQ(map, their_map.str());
    array.append(count, '\xc0');
    map.append(2UL * count, '\xc0');
    EXPECT_EQ(Reader(array).array(), count);
    EXPECT_EQ(Reader(map).map(), count);
    EXPECT_EQ(Reader(array).skip(), std::string_view(array));
    EXPECT_EQ(Reader(map).skip(), std::string_view(map));
  }
}

TEST(Msgpack, a_number_is_read_only_as_what_it_is) {
  const auto read_signed = [](const std::string& bytes) {
    return Reader(bytes).integer();
  };
  const auto read_unsigned = [](const std::string& bytes) {
    return Reader(bytes).unsigned_integer();
  };
  EXPECT_EQ(read_unsigned(ours(integer(-1))), std::nullopt);
  EXPECT_EQ(read_signed(ours({.type = Type::integer, .unsigned_integer = 1ULL << 63})),
            std::nullopt);
  // A signed head with a positive value is what some encoders write.
  EXPECT_EQ(read_unsigned(std::string("\xd1\x00\x05", 3)), 5U);
  EXPECT_EQ(read_signed(std::string("\xd3\xff\xff\xff\xff\xff\xff\xff\xfe", 9)), -2);
  EXPECT_EQ(Reader("\x05").real(), 5.0);
  EXPECT_EQ(Reader(std::string_view("\xca\x3f\xc0\x00\x00", 5)).real(), 1.5);
  EXPECT_EQ(Reader("\xc3").integer(), std::nullopt);
}

TEST(Msgpack, a_refused_read_consumes_nothing) {
  Reader in("\xa1x");
  EXPECT_FALSE(in.integer() || in.boolean() || in.bin() || in.array() || in.map() || in.nil());
  EXPECT_EQ(in.position(), 0U);
  EXPECT_EQ(in.str(), "x");
}

TEST(Msgpack, an_extension_type_and_the_reserved_byte_are_refused) {
  for (const unsigned first : {0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8}) {
    std::string bytes(20, '\0');
    bytes[0] = static_cast<char>(first);
    EXPECT_EQ(Reader(bytes).peek(), Type::invalid) << first;
    EXPECT_EQ(Reader(bytes).skip(), std::nullopt) << first;
  }
}

TEST(Msgpack, nothing_is_read_deeper_than_allowed) {
  std::string nested(8, '\x91');
  nested.push_back('\xc0');
  EXPECT_TRUE(Reader(nested).skip(8));
  EXPECT_FALSE(Reader("\x91" + nested).skip(8));
}

TEST(Msgpack, a_count_beyond_the_bytes_that_are_there_is_refused_at_once) {
  EXPECT_EQ(Reader(std::string_view("\xdd\xff\xff\xff\xff", 5)).array(), std::nullopt);
  EXPECT_EQ(Reader(std::string_view("\xdf\xff\xff\xff\xff\xc0", 6)).map(), std::nullopt);
  EXPECT_EQ(Reader(std::string_view("\xdb\xff\xff\xff\xffx", 6)).str(), std::nullopt);
}

// ---------------------------------------------------------------- random documents

// Never a whole number: msgpack-cxx writes those as integers.
rc::Gen<double> any_fraction() {
  return rc::gen::exec([] {
    const auto odd = static_cast<double>(*rc::gen::inRange<std::int64_t>(-(1 << 30), 1 << 30) | 1);
    return std::ldexp(odd, -*rc::gen::inRange(1, 900));
  });
}

rc::Gen<Value> any_leaf() {
  return rc::gen::exec([] {
    Value value;
    switch (*rc::gen::inRange(0, 7)) {
      case 0:
        break;
      case 1:
        value.type = Type::boolean;
        value.boolean = *rc::gen::arbitrary<bool>();
        break;
      case 2:
        return integer(*rc::gen::arbitrary<std::int64_t>() >> *rc::gen::inRange(0, 63));
      case 3:
        value.type = Type::integer;
        value.unsigned_integer = *rc::gen::arbitrary<std::uint64_t>();
        break;
      case 4:
        value.type = Type::real;
        value.real = *any_fraction();
        break;
      default:
        value.type = *rc::gen::element(Type::str, Type::bin);
        value.bytes = *rc::gen::arbitrary<std::string>();
    }
    return value;
  });
}

rc::Gen<Value> any_value(int depth) {
  return rc::gen::exec([depth] {
    if (depth == 0 || *rc::gen::inRange(0, 3) == 0) return *any_leaf();
    Value value{.type = *rc::gen::element(Type::array, Type::map)};
    const int count = *rc::gen::inRange(0, 20);
    for (int i = 0; i < count; ++i) {
      if (value.type == Type::map) value.items.push_back(*any_leaf());
      value.items.push_back(*any_value(depth - 1));
    }
    return value;
  });
}

TEST(Msgpack, random_documents_agree_both_ways) {
  EXPECT_TRUE(rc::check([] { agree(*any_value(3)); }));
}

TEST(Msgpack, random_bytes_that_ours_takes_are_a_document_of_that_size) {
  EXPECT_TRUE(rc::check([] {
    const auto bytes = *rc::gen::arbitrary<std::string>();
    const auto skipped = Reader(bytes).skip();
    if (!skipped) RC_DISCARD("no document for ours");
    std::size_t end = 0;
    const oracle::unpack_limit limit(1000, 1000, 1000, 1000, 1000, 8);
    oracle::object_handle handle;
    oracle::unpack(handle, bytes.data(), bytes.size(), end, nullptr, nullptr, limit);  // throws
    RC_ASSERT(skipped->size() == end);
  }));
}

TEST(Msgpack, no_random_bytes_make_a_read_pass_the_end) {
  EXPECT_TRUE(rc::check([](const std::string& text) {
    const std::vector<char> bytes(text.begin(), text.end());  // exactly so many: a sanitizer sees
    Reader in({bytes.data(), bytes.size()});
    while (in.skip() && !in.at_end()) {
    }
    RC_ASSERT(in.position() <= bytes.size());
  }));
}

}  // namespace
}  // namespace sluice::common_msgpack_test
