// Handlers that take and return values of your own types instead of bytes. One macro of nlohmann's
// says what their fields are:
//
//   struct Resize {
//     std::string url;
//     int width = 0;
//     NLOHMANN_DEFINE_TYPE_INTRUSIVE(Resize, url, width)
//   };
//
//   worker.on("resize", sluice::typed<Resize>([](const Resize& wanted, sluice::Task& task) {
//     return Resized{...};  // with such a macro; or any value that nlohmann::json can hold
//   }));
//
// The payload is msgpack or JSON, as its content type says, and the result is written in the same
// form. A payload that is neither, is nested deeper than 32, lacks a field or has one of another
// type is failed for good (`bad_payload`), and the handler is not called; compile with
// -DJSON_DIAGNOSTICS=1 and the error names a field of another type, too. Numbers are converted as
// C++ converts them (3.9 is 3 in an int): check what matters. Fields that the type does not have
// are passed over. Needs nlohmann-json3-dev, which the rest of Sluice's headers do not.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "worker/sdk/task.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace typed_detail {

// Whether the payload is JSON by its content type, else msgpack. Throws TaskFailed for another type
// and for what is nested so deeply that reading it could end the stack.
[[nodiscard]] bool check_form(const Task& task);

template <typename In>
[[nodiscard]] In read(const Task& task) {
  try {
    const nlohmann::json value = check_form(task) ? nlohmann::json::parse(task.payload())
                                                  : nlohmann::json::from_msgpack(task.payload());
    return value.get<In>();
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception.out_of_range.403] key 'width' not found"
    const std::string_view text = error.what();
    const std::size_t name_end = text.find("] ");
    throw TaskFailed(
        "bad_payload",
        std::string(name_end == std::string_view::npos ? text : text.substr(name_end + 2)),
        false);
  }
}

[[nodiscard]] inline std::string write(const nlohmann::json& value, bool is_json) {
  using Handler = nlohmann::json::error_handler_t;
  if (is_json) return value.dump(-1, ' ', false, Handler::replace);  // of text that is not UTF-8
  std::string bytes;
  nlohmann::json::to_msgpack(value, bytes);
  return bytes;
}

template <typename In, typename Callable>
decltype(auto) call(Callable& callable, const In& in, Task& task) {
  if constexpr (std::is_invocable_v<Callable&, const In&, Task&>)
    return callable(in, task);
  else
    return callable(in);
}

}  // namespace typed_detail

// A handler from anything callable with (const In&, Task&) or (const In&). It may return nothing,
// a value that becomes the result, or a TaskOutcome as it is; and throw as every handler may.
template <typename In, typename Callable>
[[nodiscard]] TaskHandler typed(Callable callable) {
  using Out = std::decay_t<decltype(typed_detail::call(std::declval<Callable&>(),
                                                       std::declval<const In&>(),
                                                       std::declval<Task&>()))>;
  return [callable = std::move(callable)](Task& task) mutable -> TaskOutcome {
    const In in = typed_detail::read<In>(task);
    if constexpr (std::is_void_v<Out>) {
      typed_detail::call(callable, in, task);
      return TaskOutcome::ok();
    } else if constexpr (std::is_same_v<Out, TaskOutcome>) {
      return typed_detail::call(callable, in, task);
    } else {
      const nlohmann::json out = typed_detail::call(callable, in, task);
      return TaskOutcome::ok(typed_detail::write(out, typed_detail::check_form(task)));
    }
  };
}

}  // namespace sluice
