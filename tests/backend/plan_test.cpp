#include "runtime/plan.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>

#include "artifact_forge.h"

using namespace abq;
using namespace abq::test;
using runtime::LoadedPlan;
using runtime::Verify;

namespace {

Status open_bytes(const std::string& bytes, Verify verify = Verify::kAll) {
  const ScratchFolder folder;
  write_file(folder.file("model.abq"), bytes);
  return LoadedPlan::open(folder.file("model.abq"), verify).status();
}

// Refused with this code and these words, whichever way the file is opened.
void check_refused(const std::string& bytes, StatusCode code, const std::string& words) {
  const Status status = open_bytes(bytes);
  CAPTURE(status.to_string());
  CHECK(status.code() == code);
  CHECK(status.message().find(words) != std::string::npos);
}

using Damage = std::function<void(Forge&)>;

// The tiny model with valid checksums and one hostile field.
void check_hostile(const Damage& damage, const std::string& words,
                   StatusCode code = StatusCode::kCorrupt) {
  Forge forge = tiny_model();
  damage(forge);
  check_refused(forge.bytes(), code, words);
}

proto::Step* step(Forge& forge, int index) {
  return forge.plan.mutable_steps(index);
}
proto::Buffer* buffer(Forge& forge, int index) {
  return forge.plan.mutable_buffers(index);
}
proto::Blob* blob(Forge& forge, int index) {
  return forge.plan.mutable_blobs(index);
}

void check_header_refused(const std::function<void(proto::ArtifactHeader&)>& damage,
                          StatusCode code, const std::string& words) {
  const std::string file = tiny_model().bytes();
  proto::ArtifactHeader header = header_of(file);
  damage(header);
  check_refused(with_header(file, header), code, words);
}

}  // namespace

TEST_CASE("a whole artifact opens and gives its blobs") {
  const ScratchFolder folder;
  const Forge forge = tiny_model();
  write_file(folder.file("model.abq"), forge.bytes());
  for (const Verify verify : {Verify::kAll, Verify::kPlan}) {
    const auto plan = LoadedPlan::open(folder.file("model.abq"), verify);
    REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
    CHECK((*plan)->plan().steps_size() == 14);
    CHECK((*plan)->file_size() == static_cast<int64_t>(forge.bytes().size()));
    for (uint32_t i = 0; i < forge.blobs.size(); ++i) {
      const auto bytes = (*plan)->blob_bytes(i);
      CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
            forge.blobs[i]);
      CHECK((*plan)->verify_blob(i).ok());
      (*plan)->drop_blob_pages(i);
    }
  }
}

TEST_CASE("a missing file is not found") {
  CHECK(LoadedPlan::open("/nonexistent/model.abq", Verify::kAll).status().code() ==
        StatusCode::kNotFound);
}

TEST_CASE("an artifact cut at any byte is refused") {
  const ScratchFolder folder;
  const std::string path = folder.file("model.abq");
  const std::string file = tiny_model().bytes();
  write_file(path, file);
  for (size_t size = file.size(); size-- > 0;) {
    REQUIRE(::truncate(path.c_str(), static_cast<off_t>(size)) == 0);
    REQUIRE(!LoadedPlan::open(path, Verify::kPlan).ok());
  }
}

TEST_CASE("any flipped byte is found") {
  const ScratchFolder folder;
  const std::string path = folder.file("model.abq");
  const std::string file = tiny_model().bytes();
  write_file(path, file);
  const int fd = ::open(path.c_str(), O_WRONLY);
  REQUIRE(fd >= 0);
  for (size_t i = 0; i < file.size(); ++i) {
    for (const int bits : {0x01, 0x80, 0xff}) {
      const char flipped = static_cast<char>(file[i] ^ bits);
      REQUIRE(::pwrite(fd, &flipped, 1, static_cast<off_t>(i)) == 1);
      CAPTURE(i);
      REQUIRE(!LoadedPlan::open(path, Verify::kAll).ok());
    }
    REQUIRE(::pwrite(fd, &file[i], 1, static_cast<off_t>(i)) == 1);
  }
  ::close(fd);
  CHECK(LoadedPlan::open(path, Verify::kAll).ok());
}

TEST_CASE("bytes after the end are refused") {
  check_refused(tiny_model().bytes() + "x", StatusCode::kCorrupt, "it was extended");
}

TEST_CASE("files that are no artifacts are refused as such") {
  check_refused("", StatusCode::kCorrupt, "has 0 bytes, fewer than the 64");
  check_refused(std::string(1000, 'x'), StatusCode::kCorrupt, "does not start with");
  check_refused(tiny_model().bytes().substr(0, 40), StatusCode::kCorrupt, "cut off");
}

TEST_CASE("a newer format version says what would read it") {
  check_header_refused([](auto& h) { h.format_version = 7; }, StatusCode::kUnsupported,
                       "format version 7 is newer than this build reads (1); use the abq that "
                       "wrote it or a later one");
}

TEST_CASE("contradictions in the header are refused") {
  const StatusCode corrupt = StatusCode::kCorrupt;
  check_header_refused([](auto& h) { h.format_version = 0; }, corrupt, "version 0 does not exist");
  check_header_refused([](auto& h) { h.header_size = 4; }, corrupt, "header size is 4");
  check_header_refused([](auto& h) { h.header_size = 0xfffffff8u; }, corrupt, "header size is");
  check_header_refused([](auto& h) { h.reserved = 1; }, corrupt, "reserved header field is 1");
  check_header_refused([](auto& h) { h.plan_offset += 1; }, corrupt, "expected a multiple of 64");
  check_header_refused([](auto& h) { h.plan_offset = 0; }, corrupt, "plan starts at byte 0");
  check_header_refused([](auto& h) { h.plan_offset = ~uint64_t{63}; }, corrupt, "plan starts at");
  check_header_refused([](auto& h) { h.plan_size = ~uint64_t{0}; }, corrupt, "to the end of the");
  check_header_refused([](auto& h) { h.plan_size = 1; }, corrupt, "plan has 1 bytes");
  check_header_refused([](auto& h) { h.plan_checksum ^= 1; }, corrupt, "plan checksum is");
  check_header_refused([](auto& h) { h.file_size -= 1; }, corrupt, "it was extended");
  std::string file = tiny_model().bytes();
  file[20] = static_cast<char>(file[20] ^ 1);
  check_refused(file, corrupt, "header checksum is");
}

TEST_CASE("a plan that is no message or has another version is refused") {
  Forge forge = tiny_model();
  forge.plan.set_format_version(2);
  check_refused(forge.bytes(), StatusCode::kCorrupt, "plan says format version 2, the header 1");
  // A second `model` field whose bytes are no ModelInfo.
  forge = tiny_model();
  forge.plan.GetReflection()->MutableUnknownFields(&forge.plan)->AddLengthDelimited(2, "\xff\xff");
  check_refused(forge.bytes(), StatusCode::kCorrupt, "not a well-formed Plan");
}

TEST_CASE("hostile blob records are refused") {
  check_hostile([](Forge& f) { blob(f, 1)->set_offset(blob(f, 1)->offset() + 1); },
                "expected a multiple of 64");
  check_hostile([](Forge& f) { blob(f, 1)->set_offset(blob(f, 0)->offset()); }, "inside what ends");
  check_hostile([](Forge& f) { blob(f, 0)->set_offset(0); }, "inside what ends at 64");
  check_hostile([](Forge& f) { blob(f, 1)->set_offset(~uint64_t{63}); }, "past the start of the");
  check_hostile([](Forge& f) { blob(f, 1)->set_offset(blob(f, 1)->offset() + 64); },
                "no bytes lie unused");
  check_hostile([](Forge& f) { blob(f, 1)->set_size(~uint64_t{0}); }, "expected 32 for F32[8]");
  check_hostile([](Forge& f) { blob(f, 1)->set_checksum(1); }, "checksum is");
  check_hostile([](Forge& f) { blob(f, 1)->clear_type(); }, "no element type");
  check_hostile([](Forge& f) { blob(f, 1)->set_type(static_cast<proto::ElementType>(99)); },
                "element type 99 is unknown", StatusCode::kUnsupported);
  check_hostile([](Forge& f) { blob(f, 1)->clear_shape(); }, "no dimensions");
  check_hostile([](Forge& f) { blob(f, 1)->set_shape(0, -1); }, "dimension -1");
  check_hostile([](Forge& f) { blob(f, 0)->set_shape(0, int64_t{1} << 40); }, "larger than the");
  check_hostile([](Forge& f) { blob(f, 0)->set_shape(0, std::numeric_limits<int64_t>::max()); },
                "dimension 9223372036854775807 is outside");
  check_hostile([](Forge& f) { blob(f, 1)->set_code_bits(3); }, "code bits 3, expected none");
  check_hostile([](Forge& f) { blob(f, 2)->set_code_bits(8); }, "3 for BASE5");
  check_hostile([](Forge& f) { blob(f, 5)->set_code_bits(9); }, "1 to 8 for PLANES");
  check_hostile([](Forge& f) { blob(f, 5)->add_shape(1); }, "2 dimensions");
  check_hostile([](Forge& f) { blob(f, 5)->set_shape(1, int64_t{1} << 40); }, "larger than the");
}

TEST_CASE("bytes between blobs must be zero") {
  const Forge forge = tiny_model();
  std::string file = forge.bytes();
  const size_t padding = forge.plan.blobs(1).offset() + forge.plan.blobs(1).size();
  REQUIRE(padding % 64 != 0);
  file[padding] = '\1';
  check_refused(file, StatusCode::kCorrupt, "is 01, expected 00");
  CHECK(open_bytes(file, Verify::kPlan).ok());
}

TEST_CASE("values that no quantizer makes are refused") {
  const auto set_float = [](Forge& f, size_t index, float value) {
    std::memcpy(f.blobs[index].data(), &value, sizeof(value));
    f.place_blobs();
  };
  // Blob 3: scales of q; 4: its zero points (5 levels); 11: rope frequencies.
  check_hostile([&](Forge& f) { set_float(f, 3, std::nanf("")); },
                "expected a finite number above");
  check_hostile([&](Forge& f) { set_float(f, 3, -1.0f); }, "value 0 is -1");
  check_hostile([&](Forge& f) { set_float(f, 11, INFINITY); }, "(frequencies): value 0 is inf");
  check_hostile(
      [](Forge& f) {
        f.blobs[4][2] = 5;
        f.place_blobs();
      },
      "zero point 2 is 5, expected at most 4");
}

TEST_CASE("hostile model records are refused") {
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_vocab_size(0); }, "vocab_size is 0");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_vocab_size(int64_t{1} << 40); },
                "vocab_size is");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_hidden_size(-8); }, "hidden_size is -8");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_context(int64_t{1} << 60); },
                "context is");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_weights(0); }, "weights is 0");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_layers(-1); }, "layers is -1");
}

TEST_CASE("hostile buffers are refused") {
  check_hostile([](Forge& f) { buffer(f, 0)->clear_kind(); }, "buffer 0: kind 0 is unknown");
  check_hostile([](Forge& f) { buffer(f, 0)->set_columns(0); }, "buffer 0: 0 columns");
  check_hostile([](Forge& f) { buffer(f, 0)->set_bits(4); }, "expected none for float32");
  check_hostile([](Forge& f) { buffer(f, 2)->set_bits(9); }, "1 to 8 for quantized tokens");
  check_hostile([](Forge& f) { buffer(f, 3)->set_slot(1000); }, "slot 1000");
  check_hostile([](Forge& f) { f.add_buffer(proto::Buffer::FLOAT, 4); }, "no step writes it");
}

TEST_CASE("buffers that live together never share a slot") {
  // x (buffer 0) is read by the addition, step 9.
  check_hostile([](Forge& f) { buffer(f, 3)->set_slot(0); },
                "buffers 0 and 3 share slot 0, but 0 is live until step 9");
  // A step's output must not lie on its own input.
  check_hostile([](Forge& f) { buffer(f, 6)->set_slot(3); }, "share slot 3");
  check_hostile([](Forge& f) { buffer(f, 3)->set_slot(2); }, "different kinds but share slot 2");
  Forge forge = tiny_model();
  buffer(forge, 3)->set_slot(1);  // the norm's output is done before q is written
  CHECK(open_bytes(forge.bytes()).ok());
}

TEST_CASE("hostile buffer indices of steps are refused") {
  check_hostile([](Forge& f) { step(f, 1)->set_inputs(0, 999); }, "reads buffer 999");
  check_hostile([](Forge& f) { step(f, 1)->set_inputs(0, 5); }, "before a step wrote it");
  check_hostile([](Forge& f) { step(f, 1)->set_output(999); }, "writes buffer 999");
  check_hostile([](Forge& f) { step(f, 1)->set_output(0); }, "which step 0 wrote already");
  check_hostile([](Forge& f) { step(f, 1)->add_inputs(0); }, "has 2 inputs, expected 1");
  check_hostile([](Forge& f) { step(f, 12)->set_inputs(0, 2); }, "is buffer 2 of quantized tokens");
  check_hostile([](Forge& f) { step(f, 3)->set_inputs(0, 1); }, "is buffer 1 of float32");
}

TEST_CASE("unknown operations say what would run them") {
  check_hostile([](Forge& f) { step(f, 9)->clear_operation(); },
                "step 9 (add): operation unknown to this build", StatusCode::kUnsupported);
}

TEST_CASE("first and last step are the embedding and the logits") {
  check_hostile(
      [](Forge& f) {
        f.plan.clear_steps();
        f.plan.clear_buffers();
        f.plan.mutable_model()->set_layers(0);
      },
      "plan has no steps");
  check_hostile(
      [](Forge& f) {
        const uint32_t again = f.add_buffer(proto::Buffer::FLOAT, 8);
        f.add_step("again", {}, again).mutable_embedding()->set_table(0);
      },
      "only the first step reads token ids");
  check_hostile(
      [](Forge& f) {
        const uint32_t wrong = f.add_buffer(proto::Buffer::FLOAT, 8);
        f.add_step("wrong", {12, 11}, wrong).mutable_add();
      },
      "last step writes 8 columns");
  check_hostile(
      [](Forge& f) {
        f.plan.clear_steps();
        f.plan.clear_buffers();
        f.add_step("tokens", {}, f.add_buffer(proto::Buffer::FLOAT, 8)).mutable_add();
      },
      "has 0 inputs, expected 2");
}

TEST_CASE("hostile operands of float steps are refused") {
  check_hostile([](Forge& f) { step(f, 0)->mutable_embedding()->set_table(999); },
                "table is blob 999, but there are");
  check_hostile([](Forge& f) { step(f, 0)->mutable_embedding()->set_table(1); },
                "table is blob 1 (norm), a F32[8], expected F32 or F16 or BF16 of [6, 8]");
  check_hostile([](Forge& f) { step(f, 1)->mutable_rms_norm()->set_eps(std::nanf("")); }, "eps is");
  check_hostile([](Forge& f) { step(f, 1)->mutable_rms_norm()->set_weight(0); },
                "weight is blob 0");
  check_hostile([](Forge& f) { step(f, 12)->mutable_linear()->set_weight(0); }, "of [8, 8]");
  check_hostile([](Forge& f) { step(f, 2)->mutable_quantize_tokens()->set_bits(4); },
                "quantizes to 4 bits, its output holds 8");
  check_hostile([](Forge& f) { buffer(f, 2)->set_columns(4); }, "output has 4 columns, expected 8");
  check_hostile([](Forge& f) { step(f, 9)->set_inputs(1, 4); }, "input 1 has 4 columns");
  check_hostile([](Forge& f) { step(f, 6)->mutable_rope()->set_head_dim(3); }, "head dimension 3");
  check_hostile([](Forge& f) { step(f, 6)->mutable_rope()->set_head_dim(0); }, "head dimension 0");
  check_hostile([](Forge& f) { step(f, 6)->mutable_rope()->set_head_dim(8); }, "F32 of [4]");
  check_hostile([](Forge& f) { step(f, 6)->mutable_rope()->set_frequencies(4); }, "frequencies is");
}

TEST_CASE("a transform is run where its size divides the columns and has a matrix") {
  const auto as_hadamard = [](Forge& f, uint32_t size) {
    step(f, 9)->clear_inputs();
    step(f, 9)->add_inputs(8);
    step(f, 9)->mutable_hadamard()->set_size(size);
  };
  Forge forge = tiny_model();
  as_hadamard(forge, 4);
  const Status status = open_bytes(forge.bytes());
  CHECK_MESSAGE(status.ok(), status.to_string());
  check_hostile([&](Forge& f) { as_hadamard(f, 0); }, "transforms 0 columns at a time");
  check_hostile([&](Forge& f) { as_hadamard(f, 1); }, "expected a divisor of 8 above 1");
  check_hostile([&](Forge& f) { as_hadamard(f, 3); }, "expected a divisor of 8 above 1");
  check_hostile([&](Forge& f) { as_hadamard(f, 0xffffffffu); }, "expected a divisor of 8 above 1");
  check_hostile(
      [&](Forge& f) {
        as_hadamard(f, 4);
        step(f, 9)->add_inputs(8);
      },
      "has 2 inputs, expected 1");
}

TEST_CASE("hostile quantized weights are refused") {
  const auto weights = [](Forge& f) { return step(f, 3)->mutable_bit_linear()->mutable_weights(); };
  check_hostile([&](Forge& f) { weights(f)->set_bits(0); }, "weights have 0 bits");
  check_hostile([&](Forge& f) { weights(f)->set_bits(0xffffffffu); }, "expected 1 to 2 with bit");
  check_hostile([&](Forge& f) { weights(f)->set_bits(1); }, "which cannot hold w1b (3 levels)");
  check_hostile([&](Forge& f) { weights(f)->set_balanced(false); }, "cannot hold w2 (4 levels)");
  check_hostile([&](Forge& f) { weights(f)->set_group_size(3); }, "group size 3 does not divide");
  check_hostile([&](Forge& f) { weights(f)->set_group_size(0x80000000u); }, "does not divide K=8");
  check_hostile([&](Forge& f) { weights(f)->set_group_size(8); }, "group size 8 is not supported");
  check_hostile([&](Forge& f) { weights(f)->set_codes(999); }, "codes is blob 999");
  check_hostile([&](Forge& f) { weights(f)->set_codes(0); }, "expected PLANES or BASE5 or BASE3");
  check_hostile([&](Forge& f) { weights(f)->set_codes(5); }, "of [8, 8]");
  check_hostile([&](Forge& f) { weights(f)->set_scales(999); }, "scales is blob 999");
  check_hostile([&](Forge& f) { weights(f)->set_scales(4); }, "scales is blob 4 (q.zeros), a U8");
  check_hostile([&](Forge& f) { weights(f)->set_zeros(3); }, "zeros is blob 3");
  check_hostile([](Forge& f) { step(f, 4)->mutable_bit_linear()->mutable_weights()->set_bits(4); },
                "PLANES<3>[4, 8], which cannot hold w4");
  check_hostile([](Forge& f) { step(f, 3)->mutable_bit_linear()->set_activation_bits(12); },
                "activations have 12 bits");
  check_hostile([](Forge& f) { step(f, 3)->mutable_bit_linear()->set_activation_bits(4); },
                "reads activations of 4 bits, its input holds 8");
  check_hostile([](Forge& f) { step(f, 3)->mutable_bit_linear()->clear_kernel(); }, "no kernel");
}

TEST_CASE("hostile attention steps are refused") {
  const auto attention = [](Forge& f) { return step(f, 8)->mutable_attention(); };
  check_hostile([&](Forge& f) { attention(f)->set_layer(1); }, "layer 1, expected less than the");
  check_hostile([&](Forge& f) { attention(f)->set_heads(0); }, "0 heads");
  check_hostile([&](Forge& f) { attention(f)->set_kv_heads(0); }, "0 key/value heads");
  check_hostile([&](Forge& f) { attention(f)->set_kv_heads(3); }, "whole groups");
  check_hostile([&](Forge& f) { attention(f)->set_heads(4); }, "query has 8 columns, expected 16");
  check_hostile([&](Forge& f) { attention(f)->set_kv_heads(2); }, "key has 4 columns, expected 8");
  check_hostile(
      [&](Forge& f) {
        attention(f)->set_heads(0xffffffffu);
        attention(f)->set_head_dim(0xffffffffu);
      },
      "are more than");
  check_hostile([&](Forge& f) { attention(f)->set_kv_bits(1); }, "the cache 1");
  check_hostile([&](Forge& f) { attention(f)->set_query_bits(9); }, "query has 9 bits");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_layers(2); },
                "layer 1 of the model's 2");
  check_hostile([](Forge& f) { f.plan.mutable_model()->set_layers(int64_t{1} << 62); },
                "has no attention step");
  check_hostile(
      [&](Forge& f) {
        f.plan.mutable_model()->set_layers(int64_t{1} << 33);
        attention(f)->set_layer(0xffffffffu);
      },
      "layer 4294967295 in a plan of 14 steps");
  check_hostile(
      [](Forge& f) {
        proto::Step again = f.plan.steps(8);
        again.set_output(f.add_buffer(proto::Buffer::FLOAT, 8));
        const proto::Step head = f.plan.steps(13);
        *f.plan.mutable_steps(13) = again;
        *f.plan.add_steps() = head;
      },
      "steps 8 and 13 both keep the state of layer 0");
}

TEST_CASE("hostile tunings are refused, kernels of other builds are not") {
  const auto choice = [](Forge& f) {
    proto::Tuning::Choice* added = f.plan.add_tunings()->add_choices();
    added->set_planes(2);
    added->set_activation_bits(8);
    added->set_n(64);
    added->set_k(64);
    added->set_kernel("cuda.of_tomorrow");
    return added;
  };
  Forge forge = tiny_model();
  choice(forge);
  CHECK(open_bytes(forge.bytes()).ok());
  check_hostile([&](Forge& f) { choice(f)->set_planes(9); }, "9 planes x 8 bits");
  check_hostile([&](Forge& f) { choice(f)->set_n(0); }, "[0, 64]");
  check_hostile([&](Forge& f) { choice(f)->set_max_m(-1); }, "up to -1 tokens");
  check_hostile([&](Forge& f) { choice(f)->clear_kernel(); }, "kernel ''");
}

TEST_CASE("hostile tokenizer, generation and self-test records are refused") {
  const auto last = [](Forge& f) { return static_cast<uint32_t>(f.blobs.size()); };
  check_hostile([&](Forge& f) { f.plan.mutable_tokenizer()->set_blob(last(f)); }, "tokenizer: is");
  check_hostile([](Forge& f) { f.plan.mutable_tokenizer()->set_blob(0); }, "expected BYTES");
  check_hostile([](Forge& f) { f.plan.mutable_tokenizer()->clear_kind(); }, "kind 0 is unknown",
                StatusCode::kUnsupported);
  check_hostile([](Forge& f) { f.plan.mutable_generation()->add_stop_ids(-1); }, "stop id -1");
  check_hostile([](Forge& f) { f.plan.mutable_generation()->set_top_p(std::nanf("")); }, "top_p");
  check_hostile([](Forge& f) { f.plan.mutable_generation()->set_top_k(-1); }, "top_k is -1");
  check_hostile([](Forge& f) { f.plan.mutable_generation()->set_temperature(-1); }, "temperature");
  check_hostile([](Forge& f) { f.plan.mutable_generation()->set_repetition_penalty(0); },
                "repetition_penalty is 0");
  check_hostile([](Forge& f) { f.plan.mutable_self_test()->add_tokens(6); },
                "token id 6 is outside");
  check_hostile([](Forge& f) { f.plan.mutable_self_test()->set_top_ids(0, -1); }, "token id -1");
  check_hostile([](Forge& f) { f.plan.mutable_self_test()->add_top_ids(1); }, "2 token ids, but 1");
  check_hostile([](Forge& f) { f.plan.mutable_self_test()->set_top_logits(0, INFINITY); },
                "is not finite");
  check_hostile(
      [](Forge& f) {
        f.plan.mutable_self_test()->clear_top_ids();
        f.plan.mutable_self_test()->clear_top_logits();
      },
      "no logits to compare");
  check_hostile(
      [](Forge& f) {
        f.plan.mutable_model()->set_context(1);
        f.plan.mutable_self_test()->add_tokens(1);
      },
      "2 tokens are more than the context of 1");
}
