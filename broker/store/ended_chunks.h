// The chunks of the ended memory in Redis (`ended:<chunk>`): which one new records are appended to,
// and which may be forgotten. A chunk is closed by count or age, and forgotten whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "broker/store/store.h"
#include "common/time.h"

namespace sluice {

class EndedChunks {
 public:
  // Chunks from `first` on, with so many records each, were made by brokers before us; the next one
  // made is `next`. `records_max`: how many records are kept at least, while they are younger than
  // `keep_ms`.
  EndedChunks(std::size_t records_max,
              std::int64_t keep_ms,
              std::uint64_t first,
              std::uint64_t next,
              const std::vector<std::uint64_t>& records);

  // Has the call append `blob`.
  void put(ProjectRequest& request, std::string blob, Now now);
  // The chunks to forget. They are told again until done().
  [[nodiscard]] std::vector<std::uint64_t> take_drop(Now now);
  // The call that told them was applied; or it may not have been.
  void done();
  void failed();

 private:
  struct Chunk {
    std::uint64_t number = 0;
    std::uint64_t records = 0;
    std::int64_t opened_ms = 0;  // kNever: before our first call
    bool is_ours = false;        // else closed: what the broker before us still sends may be in it
  };

  [[nodiscard]] std::int64_t chunk_ms() const;

  std::size_t records_max_;
  std::int64_t keep_ms_;
  std::deque<Chunk> chunks_;
  std::uint64_t next_;
  std::uint64_t records_ = 0;  // in all
  std::vector<std::uint64_t> drop_;
  std::vector<std::uint64_t> drop_out_;  // with the call that is out
};

}  // namespace sluice
