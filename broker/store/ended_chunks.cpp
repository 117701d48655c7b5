#include "broker/store/ended_chunks.h"

#include <utility>

namespace sluice {

namespace {

constexpr std::uint64_t kChunkRecordsMax = 65'536;
constexpr std::int64_t kChunkMs = 60'000;
constexpr std::size_t kRecordBytes = 32;

}  // namespace

EndedChunks::EndedChunks(std::size_t records_max, std::uint64_t first, std::uint64_t next)
    : records_max_(records_max), next_(next) {
  // How full they are is not known: they go when they are old.
  for (std::uint64_t number = first; number < next; ++number)
    chunks_.push_back({number, 0, kNever});
}

void EndedChunks::put(ProjectRequest& request, std::string blob, Now now) {
  for (Chunk& chunk : chunks_)
    if (chunk.opened_ms == kNever) chunk.opened_ms = now.mono_ms;
  if (!blob.empty()) {
    const bool is_open = !chunks_.empty() && chunks_.back().records > 0 &&
                         chunks_.back().records < kChunkRecordsMax &&
                         now.mono_ms - chunks_.back().opened_ms < kChunkMs;
    if (!is_open) chunks_.push_back({next_++, 0, now.mono_ms});
    chunks_.back().records += blob.size() / kRecordBytes;
    records_ += blob.size() / kRecordBytes;
    request.ended_chunk = chunks_.back().number;
    request.ended_blob = std::move(blob);
  }
}

std::vector<std::uint64_t> EndedChunks::take_drop(Now now) {
  while (chunks_.size() > 1 &&
         (records_ - chunks_.front().records >= records_max_ ||
          now.mono_ms - chunks_.front().opened_ms > kEndedKeepMs + kChunkMs)) {
    drop_.push_back(chunks_.front().number);
    records_ -= chunks_.front().records;
    chunks_.pop_front();
  }
  drop_out_ = std::exchange(drop_, {});
  return drop_out_;
}

void EndedChunks::done() {
  drop_out_.clear();
}

void EndedChunks::failed() {
  drop_.insert(drop_.begin(), drop_out_.begin(), drop_out_.end());
  drop_out_.clear();
}

}  // namespace sluice
