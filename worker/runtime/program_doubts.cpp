#include "worker/runtime/program_doubts.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

namespace sluice {

namespace {

namespace fs = std::filesystem;

constexpr const char* kUntilThen = "; its jobs fail until that is mended";

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// 0, or an errno.
int why_not_runnable(const fs::path& path) {
  if (::access(path.c_str(), X_OK) != 0) return errno;
  return is_folder(path) ? EISDIR : 0;
}

// As execvp(3) looks, which goes on after a file that may not be run.
bool is_in_path(const std::string& program, const fs::path& from) {
  const char* const all = std::getenv("PATH");
  std::string_view rest = all == nullptr ? "/bin:/usr/bin" : all;
  while (true) {
    const std::size_t colon = rest.find(':');
    const fs::path directory = from / rest.substr(0, colon);  // an absolute one has no `from`
    if (why_not_runnable(directory / program) == 0) return true;
    if (colon == std::string_view::npos) return false;
    rest.remove_prefix(colon + 1);
  }
}

}  // namespace

void doubt_program(TaskSettings& settings, const std::string& program, const std::string& cwd) {
  if (!cwd.empty() && !is_folder(cwd))
    return settings.doubt("cwd", "there is no directory " + cwd + " now" + kUntilThen);
  if (program.find('{') != std::string::npos) return;
  if (program.find('/') == std::string::npos) {
    if (!is_in_path(program, cwd))
      settings.doubt("program",
                     "there is no program " + program + " in the node's PATH now" + kUntilThen);
    return;
  }
  if (const int error = why_not_runnable(fs::path(cwd) / program); error != 0)
    settings.doubt("program", program + " cannot be run now: " + std::strerror(error) + kUntilThen);
}

}  // namespace sluice
