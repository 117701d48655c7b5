#include "broker/outbox.h"

#include <utility>

#include "common/mutant.h"

namespace sluice {

void Outbox::hold(Frame frame, std::uint64_t after_batch) {
  held_bytes_ += frame.bytes.size();
  held_.push_back({after_batch, std::move(frame)});
}

void Outbox::hold(Frame frame, std::uint64_t after_batch, Telling telling) {
  hold(std::move(frame), after_batch);
  held_.back().telling = std::move(telling);
}

void Outbox::release_tellings(std::uint64_t confirmed,
                              const std::function<std::string(const Req&)>& refusal,
                              std::vector<Frame>& frames) {
  std::erase_if(held_, [&](Held& held) {
    if (!held.telling) return false;
    held_bytes_ -= held.frame.bytes.size();
    if (held.telling->batch > confirmed) held.frame.bytes = refusal(held.telling->req);
    frames.push_back(std::move(held.frame));
    return true;
  });
}

void Outbox::release(std::uint64_t confirmed, std::vector<Frame>& frames) {
  while (!held_.empty() &&
         (held_.front().after_batch <= confirmed || MUTANT(speaks_before_durable))) {
    held_bytes_ -= held_.front().frame.bytes.size();
    frames.push_back(std::move(held_.front().frame));
    held_.pop_front();
  }
}

}  // namespace sluice
