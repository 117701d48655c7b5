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
  // Chunks from `first` up to before `next` exist, made by brokers before us. `records_max`: how
  // many records are kept at least, while they are younger than kEndedKeepMs.
  EndedChunks(std::size_t records_max, std::uint64_t first, std::uint64_t next);

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
    std::int64_t opened_ms = 0;
  };

  std::size_t records_max_;
  std::deque<Chunk> chunks_;
  std::uint64_t next_;
  std::uint64_t records_ = 0;  // in all
  std::vector<std::uint64_t> drop_;
  std::vector<std::uint64_t> drop_out_;  // with the call that is out
};

}  // namespace sluice
