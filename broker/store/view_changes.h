// What has changed since the view was last written, coalesced by job: of a job that changed three
// times only the newest record is kept. Nothing is decoded here: a change points into the log
// entry that it came with and keeps that entry alive.
#pragma once

#include <tsl/robin_set.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "broker/store/log_entry.h"
#include "broker/store/store.h"

namespace sluice {

// What is to be written about one job.
struct Change {
  LogEntryPtr entry{};  // holds what `record` borrows
  RecordHead record{};  // of a removed job only its id
  // The payload to write with it. It may stand in an older entry: that of a submit which has not
  // been written yet.
  LogEntryPtr payload_entry{};
  std::string_view payload{};
  bool has_payload = false;
  bool is_removed = false;
  // Made since the view was last written, and never tried to be written: the view can not have it.
  bool is_born = false;
};

class ViewChanges {
 public:
  ViewChanges() = default;
  ViewChanges(const ViewChanges&) = delete;
  ViewChanges& operator=(const ViewChanges&) = delete;

  // Puts a newer change over what is known of the job.
  void add(Change&& newer);
  // All of them, in the order in which their jobs changed first; nothing is left.
  [[nodiscard]] std::vector<Change> take();

  [[nodiscard]] bool empty() const { return changes_.empty(); }

  void clear();

 private:
  using Place = std::uint32_t;  // in changes_

  // Finds a place by the id that stands there.
  struct Ids {
    using is_transparent = void;
    const std::vector<Change>* changes;

    [[nodiscard]] std::string_view id(Place place) const { return (*changes)[place].record.id; }

    [[nodiscard]] static std::string_view id(std::string_view id) { return id; }
  };

  struct Hash : Ids {
    template <typename Key>
    std::size_t operator()(const Key& key) const {
      return std::hash<std::string_view>{}(this->id(key));
    }
  };

  struct Equal : Ids {
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return this->id(a) == this->id(b);
    }
  };

  std::vector<Change> changes_;
  // The hash is kept with each place, so that growing reads no ids.
  tsl::robin_set<Place, Hash, Equal, std::allocator<Place>, true> places_{
      0, Hash{{&changes_}}, Equal{{&changes_}}};
  std::size_t last_size_ = 0;
};

}  // namespace sluice
