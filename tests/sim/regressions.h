// Seeds that once failed, and what they showed. A change of the world (what is drawn, in which
// order) makes another run of every seed: these then only stand for their number.
#pragma once

#include <cstdint>

namespace sluice::sim {

struct Regression {
  std::uint64_t seed;
  const char* showed;
};

inline constexpr Regression kRegressions[] = {
    {62, "a broker that woke late took the state back from its successor"},
    {1602, "a deleted job was found in the view and retried"},
    {179558060900180, "a node that was taken for dead ignored the broker's new messages"},
    {179558232600531, "the checkpoint passed rows whose call had been refused"},
};

}  // namespace sluice::sim
