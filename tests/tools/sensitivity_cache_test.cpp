#include "tools/sensitivity_cache.h"

#include <doctest/doctest.h>

#include "tests/tools/cli_support.h"

namespace abq::tools {
namespace {

quant::WeightSpec spec(const std::string& scheme) {
  return quant::parse_scheme(scheme)->weights;
}

std::vector<passes::SensitivityUnit> units() {
  return {{{"layers.0.attn.q", "layers.0.attn.k"}, {spec("w2ba16"), spec("w3a16"), spec("w4a16")}},
          {{"layers.0.attn.o"}, {spec("w3a16-g32")}}};
}

const passes::Sensitivity kMeasured{{{0.5, 0.25, 0.125}, {0.0625}}, 0.01, 512};

}  // namespace

TEST_CASE("what was measured comes back, for fewer widths, too") {
  const test::ScratchFolder folder;
  const SensitivityCache cache(folder.file("work"), "f00d");
  CHECK_FALSE(cache.load(units()));
  REQUIRE(cache.save(kMeasured, units()).ok());
  const auto loaded = cache.load(units());
  REQUIRE(loaded);
  CHECK(loaded->kl == kMeasured.kl);
  CHECK(loaded->activation_kl == 0.01);
  CHECK(loaded->tokens == 512);
  std::vector<passes::SensitivityUnit> fewer = units();
  fewer[0].specs.erase(fewer[0].specs.begin());
  std::swap(fewer[0].specs[0], fewer[0].specs[1]);
  REQUIRE(cache.load(fewer));
  CHECK(cache.load(fewer)->kl[0] == std::vector<double>{0.125, 0.25});
}

TEST_CASE("numbers of other settings, units, widths or another reference are not taken") {
  const test::ScratchFolder folder;
  const SensitivityCache cache(folder.file("work"), "f00d");
  REQUIRE(cache.save(kMeasured, units()).ok());
  CHECK_FALSE(SensitivityCache(folder.file("work"), "beef").load(units()));
  std::vector<passes::SensitivityUnit> other = units();
  other[0].layers.pop_back();
  CHECK_FALSE(cache.load(other));
  other = units();
  other[1].specs.push_back(spec("w8a16-g32"));
  CHECK_FALSE(cache.load(other));
  // Without w3 the reference is another one, and so would be the KLs.
  other = units();
  other[0].specs = {spec("w2ba16"), spec("w4a16")};
  CHECK_FALSE(cache.load(other));
  CHECK(cache.load(units()));
}

TEST_CASE("a damaged file counts as none and is written over") {
  const test::ScratchFolder folder;
  const SensitivityCache cache(folder.file("work"), "f00d");
  REQUIRE(cache.save(kMeasured, units()).ok());
  const std::string path = folder.file("work/sensitivity.abqwork");
  const std::string bytes = test::read_bytes(path);
  for (const size_t size : {size_t{0}, size_t{5}, bytes.size() / 2, bytes.size() - 1}) {
    CAPTURE(size);
    folder.write("work/sensitivity.abqwork", bytes.substr(0, size));
    CHECK_FALSE(cache.load(units()));
  }
  for (size_t at = 0; at < bytes.size(); at += 7) {
    CAPTURE(at);
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    folder.write("work/sensitivity.abqwork", flipped);
    CHECK_FALSE(cache.load(units()));
  }
  REQUIRE(cache.save(kMeasured, units()).ok());
  CHECK(cache.load(units()));
}

TEST_CASE("a removed cache leaves nothing, and other files stay with their folder") {
  const test::ScratchFolder folder;
  const SensitivityCache cache(folder.file("work"), "f00d");
  REQUIRE(cache.save(kMeasured, units()).ok());
  folder.write("work/mine.txt", "x");
  cache.remove();
  CHECK(folder.listing() == std::vector<std::string>{"work"});
  CHECK(test::read_bytes(folder.file("work/mine.txt")) == "x");
  REQUIRE(cache.save(kMeasured, units()).ok());
  std::filesystem::remove(folder.file("work/mine.txt"));
  cache.remove();
  CHECK(folder.listing().empty());
}

TEST_CASE("without a folder nothing is kept") {
  const SensitivityCache none;
  REQUIRE(none.save(kMeasured, units()).ok());
  CHECK_FALSE(none.load(units()));
}

}  // namespace abq::tools
