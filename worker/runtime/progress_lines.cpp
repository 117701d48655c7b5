#include "worker/runtime/progress_lines.h"

#include <charconv>
#include <utility>
#include <variant>

#include "common/limits.h"
#include "worker/core/text.h"
#include "worker/runtime/kept_wire.h"

namespace sluice {

namespace {

// A text and a checkpoint, each at its bound, with every byte escaped as \u0000.
constexpr std::size_t kLineBytesMax = 6 * (kProgressTextBytesMax + kCheckpointBytesMax) + 256;
constexpr std::size_t kShownBytes = 80;

Result<AttemptProgress> plain_progress(std::string_view line, AttemptProgress progress) {
  const char* const end = line.data() + line.size();
  const auto [rest, error] = std::from_chars(line.data(), end, progress.percent);
  if (error != std::errc() || progress.percent > kPercentMax || (rest != end && *rest != ' '))
    return fail(ErrorCode::malformed,
                "",
                "a line of descriptor 3 is neither PERCENT TEXT nor a JSON map: " +
                    clean_text(line.substr(0, kShownBytes), kShownBytes));
  if (rest != end)
    progress.message =
        clean_text({rest + 1, static_cast<std::size_t>(end - rest) - 1}, kProgressTextBytesMax);
  return progress;
}

Result<AttemptProgress> read_line(std::string_view line, const JobId& id, Fence fence) {
  if (!line.starts_with('{')) return plain_progress(line, {id, fence, 0, {}, {}});
  auto word = read_kept(line, id, fence, KeptProtocol::json);
  if (!word) return tl::unexpected(word.error());
  auto* progress = std::get_if<AttemptProgress>(&*word);
  if (progress == nullptr || progress->id != id)
    return fail(ErrorCode::malformed, "", "descriptor 3 is for this job's progress only");
  return std::move(*progress);
}

}  // namespace

std::optional<AttemptProgress> ProgressLines::take(std::string_view bytes,
                                                   const JobId& id,
                                                   Fence fence) {
  std::optional<AttemptProgress> newest;
  for (std::size_t end = 0; (end = bytes.find('\n')) != std::string_view::npos;
       bytes.remove_prefix(end + 1)) {
    line_ += bytes.substr(0, end);
    const std::string line = std::exchange(line_, {});
    if (std::exchange(is_overlong_, false) || line.empty()) continue;
    auto progress = read_line(line, id, fence);
    if (!progress) {
      if (complaint_.empty()) complaint_ = progress.error().detail;
      continue;
    }
    if (newest && !progress->checkpoint) progress->checkpoint = std::move(newest->checkpoint);
    newest = std::move(*progress);
  }
  line_ += bytes;
  if (line_.size() <= kLineBytesMax) return newest;
  line_.clear();
  is_overlong_ = true;
  if (complaint_.empty()) complaint_ = "a line of descriptor 3 is longer than any progress";
  return newest;
}

}  // namespace sluice
