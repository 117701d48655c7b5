// The figures of a node's isolates, which stand in its `status` and in the broker's `workers`.
#pragma once

#include <vector>

#include "common/limits.h"
#include "common/protocol/messages.h"
#include "common/protocol/wire_in.h"
#include "common/protocol/wire_out.h"

namespace sluice::wire {

inline void write_isolates(OutMap& map, const std::vector<IsolateFigures>& all) {
  map.maps_if("isolates", all, [](OutMap& entry, const IsolateFigures& isolates) {
    entry.str("task", isolates.task);
    entry.number("total", isolates.total);
    entry.number("busy", isolates.busy);
    entry.number("waiting", isolates.waiting);
    entry.number("jobs", isolates.jobs);
    entry.number("crashes", isolates.crashes);
    entry.number("recycles", isolates.recycles);
    entry.number("busy_ms", isolates.busy_ms);
  });
}

inline bool read_isolates(In& in, std::vector<IsolateFigures>& all) {
  return in.list(all, 0, kTasksPerNodeMax, [&](IsolateFigures& isolates) {
    const bool ok = in.fields([&](std::string_view key) {
      if (key == "task") return in.name(isolates.task);
      if (key == "total") return in.number(isolates.total);
      if (key == "busy") return in.number(isolates.busy);
      if (key == "waiting") return in.number(isolates.waiting);
      if (key == "jobs") return in.number(isolates.jobs);
      if (key == "crashes") return in.number(isolates.crashes);
      if (key == "recycles") return in.number(isolates.recycles);
      if (key == "busy_ms") return in.number(isolates.busy_ms);
      return in.skip();
    });
    return ok && (!isolates.task.empty() || in.missing("task"));
  });
}

}  // namespace sluice::wire
