#include "broker/store/view_changes.h"

#include <utility>

namespace sluice {

namespace {

// `newer` over `older`; the payload of the submit stays until it is written.
void merge(Change& older, Change&& newer) {
  const bool loses_payload =
      newer.record.state == JobState::completed && !newer.record.keep_payload;
  if (!newer.is_removed && !newer.has_payload && older.has_payload) {
    newer.is_born = older.is_born;
    if (!loses_payload) {
      newer.payload_entry = std::move(older.payload_entry);
      newer.payload = older.payload;
      newer.has_payload = true;
    }
  } else {
    newer.is_born = newer.is_born && older.is_born;
  }
  older = std::move(newer);
}

}  // namespace

void ViewChanges::add(Change&& newer) {
  const auto found = places_.find(newer.record.id);
  if (found != places_.end()) return merge(changes_[*found], std::move(newer));
  if (changes_.empty()) changes_.reserve(last_size_);
  const auto place = static_cast<Place>(changes_.size());
  changes_.push_back(std::move(newer));
  places_.insert(place);
}

std::vector<Change> ViewChanges::take() {
  last_size_ = changes_.size();
  places_.clear();
  return std::exchange(changes_, {});
}

void ViewChanges::clear() {
  places_.clear();
  changes_.clear();
}

}  // namespace sluice
