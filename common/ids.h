// Identities: job ids, node ids, fences, and the hashes that stand for them.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/limits.h"

namespace sluice {

// A job id: 1 to 64 characters of [A-Za-z0-9_.:-], chosen by the producer. Stored in place, so that
// copying one never allocates. Checked by is_job_id() at the edge; the constructor only checks
// size.
class JobId {
 public:
  JobId() = default;

  explicit JobId(std::string_view text) : size_(static_cast<std::uint8_t>(text.size())) {
    CHECK(text.size() <= kIdBytesMax);
    std::memcpy(bytes_.data(), text.data(), text.size());
  }

  [[nodiscard]] std::string_view view() const { return {bytes_.data(), size_}; }

  [[nodiscard]] std::string str() const { return std::string(view()); }

  [[nodiscard]] bool empty() const { return size_ == 0; }

  friend bool operator==(const JobId& a, const JobId& b) { return a.view() == b.view(); }

  friend auto operator<=>(const JobId& a, const JobId& b) { return a.view() <=> b.view(); }

 private:
  std::array<char, kIdBytesMax> bytes_{};
  std::uint8_t size_ = 0;
};

// The grammar of job ids, and of queue and task names ([A-Za-z0-9_.-]{1,64}).
[[nodiscard]] bool is_job_id(std::string_view text);
[[nodiscard]] bool is_name(std::string_view text);
// A node id: a name, '@', and the random part of one process life, `n1@9f2c41aa`.
[[nodiscard]] bool is_node_id(std::string_view text);

// Which run of a job: (epoch, attempt) as stored with the job at its dispatch. Fences of one job
// only grow: they can be compared. A report counts only when its fence equals the stored one.
struct Fence {
  std::uint64_t epoch = 0;
  std::uint32_t attempt = 0;
  // `epoch.attempt`: for programs and people. As a text it does not compare.
  [[nodiscard]] std::string str() const;
  friend bool operator==(const Fence&, const Fence&) = default;
  friend auto operator<=>(const Fence&, const Fence&) = default;
};

// A UUID version 7 (RFC 9562): `wall_ms` in the first 48 bits, the rest from `random`.
// 36 lower-case characters. Ids made in the same millisecond are ordered by chance only.
[[nodiscard]] std::string make_uuid_v7(std::int64_t wall_ms,
                                       std::span<const std::uint8_t, 10> random);

// 64-bit SipHash-2-4 (libsodium) with a fixed key: the same on every machine and in every run.
// Used for jitter seeds, content hashes and ended ids; not a secret.
[[nodiscard]] std::uint64_t hash64(std::string_view bytes);

// 128 bits of the same family, for remembering ids that are gone.
struct IdHash {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend bool operator==(const IdHash&, const IdHash&) = default;
};

[[nodiscard]] IdHash hash_id(std::string_view id);

}  // namespace sluice

template <>
struct std::hash<sluice::JobId> {
  std::size_t operator()(const sluice::JobId& id) const noexcept {
    return std::hash<std::string_view>{}(id.view());
  }
};

template <>
struct std::hash<sluice::IdHash> {
  std::size_t operator()(const sluice::IdHash& id) const noexcept { return id.low; }
};
