// The words of the protocol's own enumerations.
#include "common/protocol/words.h"

#include <array>

#include "common/protocol/messages.h"

namespace sluice {

namespace {

constexpr std::array<std::string_view, 3> kDurabilities = {"memory", "everysec", "always"};
constexpr std::array<std::string_view, 4> kStatuses = {
    "accepted", "duplicate", "conflict", "rejected"};
constexpr std::array<std::string_view, 3> kPhases = {"waiting", "running", "finished"};

template <typename Enum, std::size_t Size>
std::optional<Enum> find(const std::array<std::string_view, Size>& words, std::string_view word) {
  for (std::size_t i = 0; i < Size; ++i)
    if (words[i] == word) return static_cast<Enum>(i);
  return std::nullopt;
}

}  // namespace

std::string_view to_string(Durability durability) {
  return kDurabilities.at(static_cast<std::size_t>(durability));
}

std::string_view to_string(SubmitStatus status) {
  return kStatuses.at(static_cast<std::size_t>(status));
}

std::string_view to_string(Phase phase) {
  return kPhases.at(static_cast<std::size_t>(phase));
}

std::optional<Durability> parse_durability(std::string_view word) {
  return find<Durability>(kDurabilities, word);
}

std::optional<SubmitStatus> parse_submit_status(std::string_view word) {
  return find<SubmitStatus>(kStatuses, word);
}

std::optional<Phase> parse_phase(std::string_view word) {
  return find<Phase>(kPhases, word);
}

}  // namespace sluice
