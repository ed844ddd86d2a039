// Checksums of stored bytes (XXH3, 64 bits) and digests of inputs (XXH3, 128 bits as hex).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace abq {

uint64_t checksum64(std::span<const std::byte> bytes);
// 32 lower-case hex digits.
std::string digest128(std::span<const std::byte> bytes);

// The same digests over data that arrives in parts.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void update(std::span<const std::byte> bytes);
  uint64_t checksum64() const;
  std::string digest128() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace abq
