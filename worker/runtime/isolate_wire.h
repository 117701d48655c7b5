// What a node and an isolate say to each other. Over a stream of frames, a 32-bit length before
// each, go the messages of the protocol (codec.h): to the isolate a `run` of one job, back its
// `progress`, its `log` and a `result`. Over a second socket go notes about the job at work: to
// stop, and what became of a checkpoint. (Rejected: these in the stream of jobs. The thread that
// runs the handler does not read it then, and a second reader would be woken for every job.)
// Integers are the machine's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// May come before its job is read, and after its end.
struct IsolateNote {
  std::uint64_t run_number = 0;
  std::uint64_t awaited_n = 0;  // 0: a stop; else the answer about this checkpoint
  std::uint64_t is_recorded = 0;
};

[[nodiscard]] std::string isolate_frame(std::string_view message);

class FrameReader {
 public:
  enum class Fill : std::uint8_t {
    some,
    none,  // nothing at hand; only from a descriptor that does not block
    end,   // closed, or broken
  };

  // One read(2).
  [[nodiscard]] Fill fill(int fd);

  // The next whole message, valid until fill() is called again.
  [[nodiscard]] std::optional<std::string_view> next();

  // A length that no message has was read, nothing more will come. Known after next().
  [[nodiscard]] bool is_broken() const { return is_broken_; }

 private:
  // Of the frame at the front, length included; 0 when that is not known yet.
  [[nodiscard]] std::size_t next_bytes() const;

  std::string buffer_;
  std::size_t begin_ = 0;  // of what next() has not given yet
  std::size_t end_ = 0;    // of what was read
  bool is_broken_ = false;
};

}  // namespace sluice
