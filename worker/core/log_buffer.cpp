#include "worker/core/log_buffer.h"

#include <algorithm>

namespace sluice {

namespace {

constexpr std::size_t kNearBytes = 4096;  // a line that begins so near is begun with

bool goes_on(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

// Where to end a piece of at most `bytes_max` of a longer text.
std::size_t good_end(std::string_view text, std::size_t bytes_max) {
  const std::size_t newline = text.rfind('\n', bytes_max - 1);
  if (newline != std::string_view::npos && newline >= bytes_max / 2) return newline + 1;
  std::size_t end = bytes_max;
  while (end + 3 > bytes_max && end > 1 && goes_on(text[end]))
    --end;
  return end;
}

}  // namespace

void LogBuffer::add(std::string_view bytes, std::size_t bytes_max) {
  if (begin_ >= text_.size() / 2) {
    text_.erase(0, begin_);
    begin_ = 0;
  }
  // Of much more than there is room for only the end is copied, and the byte before it.
  if (bytes.size() > bytes_max + 1) {
    missing_ += size() + bytes.size() - (bytes_max + 1);
    text_.clear();
    begin_ = 0;
    bytes.remove_prefix(bytes.size() - (bytes_max + 1));
  }
  text_ += bytes;
  cut(bytes_max);
}

void LogBuffer::cut(std::size_t bytes_max) {
  if (size() <= bytes_max) return;
  std::size_t begin = text_.size() - bytes_max;
  const std::size_t newline = std::string_view(text_).substr(begin - 1, kNearBytes).find('\n');
  if (newline != std::string_view::npos && begin + newline < text_.size()) begin += newline;
  missing_ += begin - begin_;
  begin_ = begin;
}

std::string LogBuffer::take(std::size_t bytes_max) {
  std::string piece;
  if (missing_ > 0) {
    piece = (is_within_line_ ? "\n" : "") + std::string("[sluice: ") + std::to_string(missing_) +
            " bytes are missing here]\n";
    missing_ = 0;
  }
  const std::string_view rest = std::string_view(text_).substr(begin_);
  const std::size_t room = bytes_max - std::min(bytes_max - 1, piece.size());
  const std::size_t end = rest.size() <= room ? rest.size() : good_end(rest, room);
  piece += rest.substr(0, end);
  begin_ += end;
  if (begin_ == text_.size()) {
    text_ = {};  // most attempts write little, or nothing more
    begin_ = 0;
  }
  if (!piece.empty()) is_within_line_ = piece.back() != '\n';
  return piece;
}

}  // namespace sluice
