// Named secrets: a job or a task's settings say `secret:NAME`, the value stands on the worker only.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace sluice {

// What was put in for which name, so that it can be taken out of results and errors again.
struct UsedSecret {
  std::string name;
  std::string value;
};

class SecretStore {
 public:
  // `directory` holds one file per secret; empty = environment only.
  explicit SecretStore(std::string directory = {}) : directory_(std::move(directory)) {}

  // The environment's SLUICE_SECRET_<NAME> (name in upper case), else the file NAME of the
  // directory: a regular file of at most 4 KiB that nobody else may read; one newline at its end is
  // not part of the value. Errors: bad_field (name), not_found, denied (mode); never with the
  // value.
  [[nodiscard]] Result<std::string> find(std::string_view name) const;

  // `text` with every `secret:NAME` (at its start or after a space) replaced by the value; what was
  // used is appended to `used`. Errors as find().
  [[nodiscard]] Result<std::string> fill_in(std::string_view text,
                                            std::vector<UsedSecret>& used) const;

 private:
  std::string directory_;
};

// The names of `secret:NAME` in `text`.
[[nodiscard]] std::vector<std::string> secret_names(std::string_view text);

// Replaces every occurrence of a used secret by `[secret:NAME]`.
void redact(std::string& text, const std::vector<UsedSecret>& used);

}  // namespace sluice
