#include "support/checksum.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace abq {
namespace {

std::string to_hex(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

struct Hasher::State {
  XXH3_state_t* hash64 = XXH3_createState();
  XXH3_state_t* hash128 = XXH3_createState();
  ~State() {
    XXH3_freeState(hash64);
    XXH3_freeState(hash128);
  }
};

uint64_t checksum64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string digest128(std::span<const std::byte> bytes) {
  return to_hex(XXH3_128bits(bytes.data(), bytes.size()));
}

Hasher::Hasher() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(state_->hash64);
  XXH3_128bits_reset(state_->hash128);
}
Hasher::~Hasher() = default;

void Hasher::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->hash64, bytes.data(), bytes.size());
  XXH3_128bits_update(state_->hash128, bytes.data(), bytes.size());
}

uint64_t Hasher::checksum64() const {
  return XXH3_64bits_digest(state_->hash64);
}
std::string Hasher::digest128() const {
  return to_hex(XXH3_128bits_digest(state_->hash128));
}

}  // namespace abq
