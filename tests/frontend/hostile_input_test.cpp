// Damaged files must give a Status, never a crash; the sanitizer build is what judges.
#include <doctest/doctest.h>

#include "frontend/frontend.h"
#include "frontend/safetensors.h"
#include "support/random.h"
#include "tests/frontend/model_folder.h"

using namespace abq;
using namespace abq::frontend;
using namespace abq::frontend::testing;

namespace {

constexpr size_t kHeaderEnd = 8 + 2112;  // of tiny-llama's model.safetensors

// Imports and, when that succeeds, reads every tensor.
Status import_and_touch(const ModelFolder& folder) {
  const auto checkpoint = import_checkpoint(folder.path());
  if (!checkpoint.ok()) return checkpoint.status();
  weights_digest(checkpoint->module);
  return {};
}

}  // namespace

TEST_CASE("a weight file cut at any length is refused") {
  const ModelFolder folder;
  const std::string bytes = folder.read("model.safetensors");
  for (size_t length = 0; length < bytes.size();
       length += length < kHeaderEnd + 16 ? 23 : bytes.size() / 40) {
    INFO("cut to ", length, " bytes");
    folder.write("model.safetensors", std::string_view(bytes).substr(0, length));
    CHECK(import_and_touch(folder).code() == StatusCode::kCorrupt);
  }
  folder.write("model.safetensors", std::string_view(bytes).substr(0, bytes.size() - 1));
  CHECK(import_and_touch(folder).code() == StatusCode::kCorrupt);
}

TEST_CASE("a header with any byte changed gives a status or an intact import") {
  const ModelFolder folder;
  const std::string bytes = folder.read("model.safetensors");
  // The data part makes no difference to the header's checks, but the file must stay this long.
  Random random(7);
  for (size_t at = 0; at < kHeaderEnd; at += at < 8 ? 1 : 5) {
    std::string broken = bytes;
    broken[at] = static_cast<char>(broken[at] ^ (1 << random.below(8)));
    folder.write("model.safetensors", broken);
    INFO("byte ", at);
    const Status status = import_and_touch(folder);
    CHECK((status.ok() || !status.message().empty()));
  }
}

TEST_CASE("a config or index with bytes changed or cut off gives a status or an import") {
  const ModelFolder folder;
  folder.split_into_shards();
  Random random(11);
  for (const char* name : {"config.json", kIndexName, "generation_config.json"}) {
    const std::string text = folder.read(name);
    for (size_t length = 0; length < text.size(); length += 37) {
      folder.write(name, std::string_view(text).substr(0, length));
      CHECK(!import_checkpoint(folder.path()).ok());
    }
    for (int i = 0; i < 120; ++i) {
      std::string broken = text;
      broken[random.below(text.size())] = static_cast<char>(random.below(256));
      folder.write(name, broken);
      const Status status = import_checkpoint(folder.path()).status();
      CHECK((status.ok() || !status.message().empty()));
    }
    folder.write(name, text);
  }
  CHECK(import_checkpoint(folder.path()).ok());
}

TEST_CASE("header records with random numbers never lead outside the file") {
  const ModelFolder folder;
  Random random(13);
  int accepted = 0;
  for (int i = 0; i < 400; ++i) {
    const uint64_t bits = random.below(64);
    const auto number = [&] {
      return random.below(4) == 0 ? random.next() >> bits : random.below(9);
    };
    const std::string header =
        fmt::format(R"({{"a":{{"dtype":"I32","shape":[{}],"data_offsets":[{},{}]}}}})", number(),
                    number(), number());
    folder.write("x.safetensors", safetensors_bytes(header, "12345678"));
    const auto file = SafetensorsFile::open(folder.file("x.safetensors"));
    if (!file.ok()) continue;
    ++accepted;
    CHECK(file->tensor("a")->data.bytes().size() == 8);
  }
  CHECK(accepted < 400);
}
