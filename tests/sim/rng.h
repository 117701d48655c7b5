// The only source of chance in the simulator: SplitMix64, the same numbers on every machine.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace sluice::sim {

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 0x1234567) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  // Both ends included.
  std::int64_t range(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }

  std::size_t index(std::size_t count) { return static_cast<std::size_t>(next() % count); }

  bool chance(double probability) {
    return static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
  }

  // Mostly short, now and then long: between 1 and about eight times the mean.
  std::int64_t about(std::int64_t mean) {
    std::int64_t value = range(1, mean);
    while (value < mean * 8 && chance(0.5))
      value += range(0, mean);
    return value;
  }

  template <typename List>
  auto& pick(List& list) {
    return list[index(list.size())];
  }

 private:
  std::uint64_t state_;
};

}  // namespace sluice::sim
