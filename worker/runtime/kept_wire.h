// What a node and a kept program say to each other, over its standard input and output; for people
// in worker/README.md. Each message is one map. `json`: a line each. `msgpack`: each behind its
// length, 32 bits, most significant byte first; bytes stay bytes there, where JSON has base64.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"
#include "worker/core/attempt.h"
#include "worker/runtime/process_pool.h"

namespace sluice {

enum class KeptProtocol : std::uint8_t {
  json,
  msgpack
};

// {id, attempt, fence, task, queue, retry_count, max_retries, content_type, payload, and, where
// there is one, timeout_ms, headers, checkpoint}. In JSON the payload is a value when it is JSON or
// msgpack that JSON can say, a string when it is text, else `payload_base64`.
[[nodiscard]] std::string kept_job(const RunJob& job, KeptProtocol protocol);

// {stop: id}
[[nodiscard]] std::string kept_stop(const JobId& id, KeptProtocol protocol);

// A message of the program about this job: progress, or its end. Errors: malformed, with a sentence
// that names the key.
[[nodiscard]] Result<PoolWord> read_kept(std::string_view message,
                                         const JobId& id,
                                         Fence fence,
                                         KeptProtocol protocol);

// Cuts what a program writes into messages.
class KeptReader {
 public:
  explicit KeptReader(KeptProtocol protocol) : protocol_(protocol) {}

  // One read(2) from a descriptor that does not block.
  [[nodiscard]] PoolWire::Fill fill(int fd);

  // The next whole message, valid until fill() is called again; empty lines are none. Errors:
  // malformed, when one is longer than kMessageBytesMax.
  [[nodiscard]] Result<std::optional<std::string_view>> next();

 private:
  [[nodiscard]] Result<std::optional<std::string_view>> next_line();
  [[nodiscard]] Result<std::optional<std::string_view>> next_frame();

  KeptProtocol protocol_;
  std::string buffer_;  // of what next() has not given yet, from begin_ on
  std::size_t begin_ = 0;
  std::size_t seen_ = 0;  // no line ends before this
};

}  // namespace sluice
