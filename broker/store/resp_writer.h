// One Redis command in RESP, written without a format string: each argument is a length and bytes.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

class RespWriter {
 public:
  // `bytes`: about how many will be added, so that large commands are copied once.
  explicit RespWriter(std::size_t bytes = 0) {
    text_.reserve(kHeadBytes + kArgumentBytes + bytes);
    text_.assign(kHeadBytes, ' ');
  }

  RespWriter& add(std::string_view argument) {
    text_ += '$';
    append_number(argument.size());
    text_.append("\r\n").append(argument).append("\r\n");
    ++count_;
    return *this;
  }

  RespWriter& add_number(std::uint64_t number) {
    char buffer[24];
    return add({buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr});
  }

  RespWriter& add_number(std::int64_t number) {
    char buffer[24];
    return add({buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr});
  }

  // Good until the next call.
  [[nodiscard]] std::string_view text() {
    // The number of arguments is known last; its place is kept free in front.
    const std::string head = "*" + std::to_string(count_) + "\r\n";
    const std::size_t at = kHeadBytes - head.size();
    text_.replace(at, head.size(), head);
    return std::string_view(text_).substr(at);
  }

 private:
  static constexpr std::size_t kHeadBytes = 24;
  static constexpr std::size_t kArgumentBytes = 256;  // around them: short arguments, lengths

  void append_number(std::size_t number) {
    char buffer[24];
    text_.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
  }

  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace sluice
