// The error type of the whole project: no exceptions cross a folder.
//
// Wording (docs/architecture.md, "Errors"): subject first, lower case, no final period, expected
// and got with values, then what to do:
//   layers.3.mlp.down: group size 96 does not divide K=11008; use 32, 64, 128 or per-channel
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace abq {

enum class StatusCode {
  kOk,
  kInvalidArgument,  // the caller's or user's input is wrong
  kNotFound,         // a file, tensor or name that should exist does not
  kUnsupported,      // well-formed, but not something this build can do
  kCorrupt,          // stored data contradicts itself or its checksum
  kIo,               // the operating system refused
  kDevice,           // an accelerator or instruction set failed or is missing
  kInternal,         // a bug of ours
};

// "invalid argument", "corrupt", ...
std::string_view status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "corrupt: model.abq: ..." or "ok".
  std::string to_string() const;
  // The same error with `subject` and ": " in front of its message; ok stays ok.
  Status with_context(std::string_view subject) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

template <class... Args>
Status invalid_argument(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status not_found(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kNotFound, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kUnsupported, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kCorrupt, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status io_error(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kIo, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status device_error(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kDevice, fmt::format(format, std::forward<Args>(args)...)};
}
template <class... Args>
Status internal_error(fmt::format_string<Args...> format, Args&&... args) {
  return {StatusCode::kInternal, fmt::format(format, std::forward<Args>(args)...)};
}

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {}

  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? Status() : std::get<1>(state_); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

// Reports a broken invariant (a bug, never bad input) and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace abq

#define ABQ_CHECK(condition) \
  ((condition) ? void() : ::abq::check_failed(#condition, __FILE__, __LINE__))

#define ABQ_RETURN_IF_ERROR(expression)                                               \
  do {                                                                                \
    if (::abq::Status abq_status = (expression); !abq_status.ok()) return abq_status; \
  } while (false)

#define ABQ_CONCAT_INNER(a, b) a##b
#define ABQ_CONCAT(a, b) ABQ_CONCAT_INNER(a, b)
#define ABQ_ASSIGN_OR_RETURN(declaration, expression)                                             \
  auto ABQ_CONCAT(abq_result_, __LINE__) = (expression);                                          \
  if (!ABQ_CONCAT(abq_result_, __LINE__).ok()) return ABQ_CONCAT(abq_result_, __LINE__).status(); \
  declaration = std::move(ABQ_CONCAT(abq_result_, __LINE__)).value()
