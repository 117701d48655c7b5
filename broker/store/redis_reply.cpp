#include "broker/store/redis_reply.h"

#include <charconv>

#include <hiredis/hiredis.h>

namespace sluice {

std::string text_of(const redisReply* reply) {
  if (reply == nullptr) return {};
  if (reply->type == REDIS_REPLY_INTEGER) return std::to_string(reply->integer);
  return reply->str == nullptr ? std::string() : std::string(reply->str, reply->len);
}

std::string text_at(const redisReply* reply, std::size_t place) {
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY || place >= reply->elements) return {};
  return text_of(reply->element[place]);
}

std::uint64_t number_of_text(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::uint64_t number_at(const redisReply* reply, std::size_t place) {
  return number_of_text(text_at(reply, place));
}

StoreMeta meta_at(const redisReply* reply, std::size_t place) {
  StoreMeta meta;
  meta.layout = number_at(reply, place);
  meta.epoch = number_at(reply, place + 1);
  meta.owner = text_at(reply, place + 2);
  meta.last = number_at(reply, place + 3);
  meta.checkpoint = number_at(reply, place + 4);
  meta.exists = meta.epoch > 0;
  return meta;
}

std::vector<LogEntryPtr> entries_of(const redisReply* reply) {
  std::vector<LogEntryPtr> entries;
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY) return entries;
  for (std::size_t i = 0; i < reply->elements; ++i) {
    const redisReply* entry = reply->element[i];
    std::string blob = entry->elements > 1 ? text_at(entry->element[1], 1) : std::string();
    entries.push_back(
        std::make_shared<const LogEntry>(LogEntry{number_at(entry, 0), std::move(blob)}));
  }
  return entries;
}

std::vector<LogChunk> log_chunks_at(const redisReply* reply, std::size_t place) {
  std::vector<LogChunk> chunks;
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY) return chunks;
  for (; place + 3 < reply->elements; place += 4) {
    LogChunk& chunk = chunks.emplace_back();
    chunk.bytes = text_at(reply, place + 3);
    chunk.offset = number_at(reply, place) - chunk.bytes.size();
    chunk.attempt = static_cast<std::uint32_t>(number_at(reply, place + 1));
    chunk.at_ms = static_cast<std::int64_t>(number_at(reply, place + 2));
  }
  return chunks;
}

FieldPairs pairs_of(const redisReply* reply) {
  FieldPairs pairs;
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY) return pairs;
  for (std::size_t i = 0; i + 1 < reply->elements; i += 2)
    pairs.emplace_back(text_of(reply->element[i]), text_of(reply->element[i + 1]));
  return pairs;
}

std::vector<RetiredJob> retired_at(const redisReply* reply, std::size_t place) {
  std::vector<RetiredJob> jobs;
  for (; place + 4 < reply->elements; place += 5) {
    const std::string text = text_at(reply, place);
    const auto state = parse_job_state(text_at(reply, place + 2));
    if (text.size() > kIdBytesMax || !state) continue;
    const JobId id(text);
    jobs.push_back({id,
                    number_at(reply, place + 1),
                    {.id = hash_id(id.view()),
                     .content_hash = number_at(reply, place + 3),
                     .state = *state,
                     .finished_ms = static_cast<std::int64_t>(number_at(reply, place + 4))}});
  }
  return jobs;
}

}  // namespace sluice
