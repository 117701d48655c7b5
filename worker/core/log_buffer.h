// What an attempt wrote to its job's log and has not left yet. When it is more than may wait, the
// oldest goes, and a line in its place says how much.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/limits.h"

namespace sluice {

class LogBuffer {
 public:
  static constexpr std::size_t kBytesMax = kLogKeptBytes;  // what is kept of a job's log

  void add(std::string_view bytes, std::size_t bytes_max = kBytesMax);
  // Keeps the newest `bytes_max`, from the beginning of a line where one is near.
  void cut(std::size_t bytes_max);

  void clear() { *this = LogBuffer{}; }

  [[nodiscard]] std::size_t size() const { return text_.size() - begin_; }

  [[nodiscard]] bool empty() const { return size() == 0 && missing_ == 0; }

  // The next piece, at most `bytes_max` (which holds a line and more); whole lines, or at least
  // whole characters, where there is more than that. Empty when there is nothing.
  [[nodiscard]] std::string take(std::size_t bytes_max = kLogChunkBytesMax);

 private:
  std::string text_;
  std::size_t begin_ = 0;  // of what has not been taken
  std::uint64_t missing_ = 0;
  bool is_within_line_ = false;  // what was taken last did not end its line
};

}  // namespace sluice
