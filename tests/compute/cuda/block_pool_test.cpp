#include "compute/cuda/block_pool.h"

#include <doctest/doctest.h>

#include <map>

namespace abq::compute::cuda {
namespace {

// Memory that ends: blocks are the addresses of bytes, none of which is touched.
struct Source {
  int64_t limit = 1 << 20;
  int64_t given = 0;
  int requests = 0;
  std::map<void*, int64_t> blocks;

  BlockPool::Source functions() {
    return {[this](int64_t bytes) -> void* {
              ++requests;
              if (given + bytes > limit) return nullptr;
              given += bytes;
              void* block = new char;
              blocks[block] = bytes;
              return block;
            },
            [this](void* block) {
              REQUIRE(blocks.count(block) == 1);
              given -= blocks[block];
              blocks.erase(block);
              delete static_cast<char*>(block);
            }};
  }
};

TEST_CASE("block pool: classes hold what they are asked for and waste at most an eighth") {
  CHECK(BlockPool::class_bytes(0) == 512);
  CHECK(BlockPool::class_bytes(512) == 512);
  CHECK(BlockPool::class_bytes(513) == 1024);
  for (int64_t bytes = 4096; bytes < 70000; bytes += 37) {
    const int64_t size = BlockPool::class_bytes(bytes);
    REQUIRE(size >= bytes);
    REQUIRE(size - bytes < bytes / 8 + 512);
    REQUIRE(size % 512 == 0);
    REQUIRE(BlockPool::class_bytes(size) == size);
  }
  const int64_t gigabytes = int64_t{5} << 30;
  CHECK(BlockPool::class_bytes(gigabytes) == gigabytes);
}

TEST_CASE("block pool: a returned block is the next one of its class, and of no other") {
  Source source;
  const auto pool = std::make_shared<BlockPool>(source.functions());
  void* first = pool->allocate(1000).get();
  CHECK(source.requests == 1);
  const auto again = pool->allocate(990);
  CHECK(again.get() == first);
  CHECK(source.requests == 1);
  const auto second = pool->allocate(1000);
  CHECK(second.get() != first);
  const auto larger = pool->allocate(5000);
  CHECK(source.requests == 3);
}

TEST_CASE("block pool: bytes in use, their peak and unused bytes are counted") {
  Source source;
  const auto pool = std::make_shared<BlockPool>(source.functions());
  auto a = pool->allocate(1024);
  auto b = pool->allocate(2048);
  CHECK(pool->used_bytes() == 3072);
  a.reset();
  CHECK(pool->used_bytes() == 2048);
  CHECK(pool->unused_bytes() == 1024);
  a = pool->allocate(1024);
  CHECK(pool->unused_bytes() == 0);
  CHECK(pool->peak_bytes() == 3072);
}

TEST_CASE("block pool: unused blocks go back to the source before memory counts as gone") {
  Source source;
  source.limit = 4096;
  const auto pool = std::make_shared<BlockPool>(source.functions());
  const auto kept = pool->allocate(1024);
  { const auto dropped = pool->allocate(2048); }
  CHECK(pool->unused_bytes() == 2048);
  const auto fits = pool->allocate(3072);
  CHECK(fits != nullptr);
  CHECK(pool->unused_bytes() == 0);
  CHECK(source.given == 4096);
  CHECK(pool->allocate(512) == nullptr);
  CHECK(pool->used_bytes() == 4096);
}

TEST_CASE("block pool: blocks may outlive the owner of the pool, and all go back in the end") {
  Source source;
  auto pool = std::make_shared<BlockPool>(source.functions());
  auto block = pool->allocate(100);
  { const auto unused = pool->allocate(3000); }
  pool.reset();
  CHECK(source.given > 0);
  block.reset();
  CHECK(source.given == 0);
  CHECK(source.blocks.empty());
}

}  // namespace
}  // namespace abq::compute::cuda
