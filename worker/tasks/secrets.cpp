#include "worker/tasks/secrets.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <functional>

namespace sluice {

namespace {

constexpr std::string_view kMark = "secret:";
constexpr std::string_view kNameCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
constexpr std::size_t kSecretBytesMax = 4096;

struct Reference {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string_view name;
};

std::vector<Reference> references(std::string_view text) {
  std::vector<Reference> found;
  std::size_t at = 0;
  while ((at = text.find(kMark, at)) != std::string_view::npos) {
    const std::size_t name_begin = at + kMark.size();
    const std::size_t end =
        std::min(text.find_first_not_of(kNameCharacters, name_begin), text.size());
    if (at == 0 || text[at - 1] == ' ')
      found.push_back({at, end, text.substr(name_begin, end - name_begin)});
    at = end;
  }
  return found;
}

std::string environment_name(std::string_view name) {
  std::string result = "SLUICE_SECRET_";
  for (const char c : name)
    result += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return result;
}

tl::unexpected<Error> no_secret(const std::string& name) {
  return fail(ErrorCode::not_found,
              name,
              "this worker has no secret " + name + ": give it as " + environment_name(name) +
                  ", or as a file of that name in the task's secrets_dir");
}

Result<std::string> read_private_file(const std::string& path, const std::string& name) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return no_secret(name);

  struct stat info {};

  const bool is_private =
      ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) == 0;
  std::array<char, kSecretBytesMax + 1> buffer{};
  const ssize_t size = is_private ? ::read(fd, buffer.data(), buffer.size()) : 0;
  ::close(fd);
  if (!is_private)
    return fail(ErrorCode::denied, name, "the file of secret " + name + " must have mode 0600");
  if (size < 0 || static_cast<std::size_t>(size) > kSecretBytesMax)
    return fail(ErrorCode::denied, name, "the file of secret " + name + " is not readable");
  std::string value(buffer.data(), static_cast<std::size_t>(size));
  if (value.ends_with('\n')) value.pop_back();
  return value;
}

// In one pass: a target knows the secret it is sent, and may answer with nothing else.
std::string replaced(const std::string& text, const std::string& what, const std::string& by) {
  std::string result;
  std::size_t at = 0;
  for (std::size_t next; (next = text.find(what, at)) != std::string::npos; at = next + what.size())
    result.append(text, at, next - at).append(by);
  return result.append(text, at);
}

}  // namespace

Result<std::string> SecretStore::find(std::string_view name) const {
  const std::string text(name);
  if (name.empty() || name.size() > 64 ||
      name.find_first_not_of(kNameCharacters) != std::string_view::npos)
    return fail(ErrorCode::bad_field, text, "a secret's name is [A-Za-z0-9_]{1,64}");
  if (const char* value = std::getenv(environment_name(name).c_str())) return std::string(value);
  if (directory_.empty()) return no_secret(text);
  return read_private_file(directory_ + "/" + text, text);
}

Result<std::string> SecretStore::fill_in(std::string_view text,
                                         std::vector<UsedSecret>& used) const {
  std::string filled;
  std::size_t at = 0;
  for (const Reference& reference : references(text)) {
    auto value = find(reference.name);
    if (!value) return tl::unexpected(value.error());
    filled.append(text.substr(at, reference.begin - at)).append(*value);
    used.push_back({std::string(reference.name), std::move(*value)});
    at = reference.end;
  }
  return filled.append(text.substr(at));
}

std::vector<std::string> secret_names(std::string_view text) {
  std::vector<std::string> names;
  for (const Reference& reference : references(text))
    names.emplace_back(reference.name);
  return names;
}

void redact(std::string& text, const std::vector<UsedSecret>& used) {
  // Longest first: one may be the beginning of another.
  std::vector<UsedSecret> secrets = used;
  std::ranges::stable_sort(secrets, std::ranges::greater(), [](const UsedSecret& secret) {
    return secret.value.size();
  });
  for (const UsedSecret& secret : secrets) {
    if (secret.value.empty()) continue;
    const std::string shown = "[secret:" + secret.name + "]";
    text = replaced(text, secret.value, shown);
  }
}

}  // namespace sluice
