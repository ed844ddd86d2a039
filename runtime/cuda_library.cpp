#include "runtime/cuda_library.h"

#include <array>
#include <sstream>

#include "compute/cuda_library.h"

namespace abq::runtime {

Result<std::vector<std::string>> describe_cuda_devices() {
  using Describe = int (*)(char*, size_t);
  ABQ_ASSIGN_OR_RETURN(void* function, compute::cuda_library_function("abq_cuda_describe_devices"));
  std::array<char, 4096> text{};
  const int count = reinterpret_cast<Describe>(function)(text.data(), text.size());
  if (count < 0) return device_error("cuda: {}", text.data());
  if (count == 0) return device_error("cuda: no device");
  std::vector<std::string> devices;
  std::istringstream lines(text.data());
  for (std::string line; std::getline(lines, line);)
    devices.push_back(line);
  return devices;
}

Result<std::string> cuda_device_code() {
  using Code = const char* (*)();
  ABQ_ASSIGN_OR_RETURN(void* function, compute::cuda_library_function("abq_cuda_device_code"));
  return std::string(reinterpret_cast<Code>(function)());
}

Result<std::string> cudnn_version() {
  using Version = int (*)(char*, size_t);
  ABQ_ASSIGN_OR_RETURN(void* function, compute::cuda_library_function("abq_cuda_cudnn_version"));
  std::array<char, 4096> text{};
  const int code = reinterpret_cast<Version>(function)(text.data(), text.size());
  if (code != 0) return Status(static_cast<StatusCode>(code), text.data());
  return std::string(text.data());
}

}  // namespace abq::runtime
