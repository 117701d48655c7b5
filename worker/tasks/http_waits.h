// Calls that may not begin yet: for the end of a pause that their origin asked for (429 with
// Retry-After), or for room among those of their group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "worker/tasks/http_call.h"
#include "worker/tasks/target_pauses.h"
#include "worker/tasks/target_room.h"

namespace sluice {

// Times are monotonic milliseconds.
class HttpWaits {
 public:
  using Call = std::unique_ptr<HttpCall>;

  enum class Admission : std::uint8_t {
    begins,   // it is counted in its room, until leave()
    waits,    // the call was taken
    refused,  // its own time would be over before; its reply says so
  };
  [[nodiscard]] Admission admit(Call& call, std::int64_t now_ms);

  // What the answer to a call asks of everybody. Whether a pause has grown: the time of some that
  // wait may now be over before it ends, so they have to be admitted anew.
  [[nodiscard]] bool note_pause(const HttpCall& call);

  // The call is over.
  void leave(HttpCall& call);

  // To be admitted anew: all that wait for the end of a pause, in their order; and one after the
  // other those for whom somebody left room, null when there is none.
  [[nodiscard]] std::vector<Call> take_paused();
  [[nodiscard]] Call next_with_room();

  // Ends the pauses that are over. The calls in line whose time is over too, with their replies.
  [[nodiscard]] std::vector<Call> end(std::int64_t now_ms);

  // When there is something to end(); kNever without.
  [[nodiscard]] std::int64_t next_end_ms() const;

  // Unknown ids are ignored.
  void cancel(CallId id);

  [[nodiscard]] std::size_t count() const { return paused_.size() + in_line_.size(); }

 private:
  [[nodiscard]] Admission hold_back(Call& call, std::int64_t now_ms);
  [[nodiscard]] Admission stand_in_line(Call& call);
  [[nodiscard]] Call out_of_line(CallId id);

  TargetPauses pauses_;
  std::map<CallId, Call> paused_;
  TargetRoom room_;
  std::unordered_map<CallId, Call> in_line_;
  std::set<std::pair<std::int64_t, CallId>> line_ends_;  // their deadlines
  std::vector<std::string> freed_;                       // places that somebody left
};

}  // namespace sluice
