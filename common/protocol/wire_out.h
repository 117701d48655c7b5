// Writing one message: maps whose entries are counted as they are written. Used by the codec only.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "common/ids.h"
#include "common/job.h"
#include "common/protocol/messages.h"
#include "common/protocol/msgpack.h"

namespace sluice::wire {

// A map at the end of `out`. Its head has one byte for up to 15 entries and grows to three with the
// 16th, when little stands behind it: long values (payload, result) come last in every message.
// While one is open, nothing else is appended but its keys and values. Names ending in `_if` leave
// an empty value out.
class OutMap {
 public:
  explicit OutMap(std::string& out) : out_(out), writer_(out), head_(out.size()) {
    out_.push_back('\x80');
  }

  OutMap(const OutMap&) = delete;
  OutMap& operator=(const OutMap&) = delete;

  ~OutMap() {
    if (count_ < kShortMax) {
      out_[head_] = static_cast<char>(0x80 | count_);
    } else {
      out_[head_] = '\xde';
      out_[head_ + 1] = static_cast<char>(count_ >> 8);
      out_[head_ + 2] = static_cast<char>(count_ & 0xff);
    }
  }

  // Writes the key; the caller writes the value with what is returned.
  msgpack::Writer& key(std::string_view key) {
    if (++count_ == kShortMax) out_.insert(head_ + 1, 2, '\0');
    writer_.str(key);
    return writer_;
  }

  void str(std::string_view name, std::string_view value) { key(name).str(value); }

  void str_if(std::string_view name, std::string_view value) {
    if (!value.empty()) str(name, value);
  }

  void bin_if(std::string_view name, std::string_view value) {
    if (!value.empty()) key(name).bin(value);
  }

  template <std::integral T>
  void number(std::string_view name, T value) {
    if constexpr (std::signed_integral<T>)
      key(name).integer(value);
    else
      key(name).unsigned_integer(value);
  }

  template <std::integral T>
  void number_if(std::string_view name, T value) {
    if (value != 0) number(name, value);
  }

  void boolean(std::string_view name, bool value) { key(name).boolean(value); }

  void boolean_if(std::string_view name, bool value) {
    if (value) boolean(name, value);
  }

  void fence(const Fence& fence) {
    number("epoch", fence.epoch);
    number("attempt", fence.attempt);
  }

  void headers_if(std::string_view name, const std::vector<Header>& headers) {
    if (headers.empty()) return;
    key(name).map(headers.size());
    for (const Header& header : headers) {
      writer_.str(header.name);
      writer_.str(header.value);
    }
  }

  void strs_if(std::string_view name, const std::vector<std::string>& texts) {
    if (!texts.empty()) strs(name, texts);
  }

  void strs(std::string_view name, const std::vector<std::string>& texts) {
    key(name).array(texts.size());
    for (const std::string& text : texts)
      writer_.str(text);
  }

  void ids(std::string_view name, const std::vector<JobId>& ids) {
    key(name).array(ids.size());
    for (const JobId& id : ids)
      writer_.str(id.view());
  }

  void ids_if(std::string_view name, const std::vector<JobId>& list) {
    if (!list.empty()) ids(name, list);
  }

  // An array of maps: `write(map, element)` fills in each.
  template <typename Range, typename Write>
  void maps(std::string_view name, const Range& elements, Write&& write) {
    key(name).array(elements.size());
    for (const auto& element : elements) {
      OutMap map(out_);
      write(map, element);
    }
  }

  template <typename Range, typename Write>
  void maps_if(std::string_view name, const Range& elements, Write&& write) {
    if (!elements.empty()) maps(name, elements, write);
  }

  // A map within this one.
  template <typename Write>
  void map(std::string_view name, Write&& write) {
    key(name);
    OutMap map(out_);
    write(map);
  }

 private:
  static constexpr unsigned kShortMax = 16;  // from so many entries on: map16

  std::string& out_;
  msgpack::Writer writer_;
  std::size_t head_;
  unsigned count_ = 0;
};

}  // namespace sluice::wire
