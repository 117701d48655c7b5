// A piece of a job's log on the wire: answers to `logs` and events have it. Used by the codec only.
#pragma once

#include <string_view>

#include "common/limits.h"
#include "common/protocol/messages.h"
#include "common/protocol/wire_in.h"
#include "common/protocol/wire_out.h"

namespace sluice::wire {

// The keys of a piece of a job's log; its bytes, which may be long, come last.
inline void write_log_chunk(OutMap& map, const LogChunk& chunk) {
  map.number("offset", chunk.offset);
  map.number("attempt", chunk.attempt);
  map.number("at_ms", chunk.at_ms);
  map.key("bytes").bin(chunk.bytes);
}

inline bool read_log_chunk_field(In& in, std::string_view key, LogChunk& chunk) {
  if (key == "offset") return in.number(chunk.offset);
  if (key == "attempt") return in.number(chunk.attempt);
  if (key == "at_ms") return in.number(chunk.at_ms);
  if (key == "bytes") return in.bytes(chunk.bytes, kLogChunkBytesMax);
  return in.skip();
}

}  // namespace sluice::wire
