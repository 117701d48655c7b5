// Reading hiredis replies: by place, copied out, and empty where something else stands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "broker/store/store.h"
#include "broker/store/view_row.h"

struct redisReply;

namespace sluice {

std::string text_of(const redisReply* reply);
std::string text_at(const redisReply* reply, std::size_t place);
std::uint64_t number_of_text(const std::string& text);
std::uint64_t number_at(const redisReply* reply, std::size_t place);

// layout, epoch, owner, last, checkpoint, from `place` on.
StoreMeta meta_at(const redisReply* reply, std::size_t place);

// Ended jobs as (id, batch, state, content_hash, finished_ms), from `place` on. What can not be
// read is left out.
std::vector<RetiredJob> retired_at(const redisReply* reply, std::size_t place);

// Of XRANGE: `<n>-0` and one field each.
std::vector<LogEntryPtr> entries_of(const redisReply* reply);

// Pieces of a job's log as (end, attempt, at_ms, bytes), from `place` on.
std::vector<LogChunk> log_chunks_at(const redisReply* reply, std::size_t place);

// Of HGETALL.
FieldPairs pairs_of(const redisReply* reply);

}  // namespace sluice
