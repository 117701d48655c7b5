#include "worker/sdk/typed.h"

#include "worker/runtime/payload.h"

namespace sluice::typed_detail {

bool check_form(const Task& task) {
  const std::string& type = task.content_type();
  const bool is_json = type.starts_with("application/json");
  if (!is_json && !type.starts_with("application/msgpack"))
    throw TaskFailed(
        "bad_payload",
        "content_type is " + type + ", this task takes application/msgpack and application/json",
        false);
  if (!is_shallow(type, task.payload()))
    throw TaskFailed("bad_payload", "the payload is cut short, or nested deeper than 32", false);
  return is_json;
}

}  // namespace sluice::typed_detail
