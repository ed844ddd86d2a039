#include "artifact_forge.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "quant/packed_layout.h"
#include "support/checksum.h"
#include "support/random.h"
#include "support/status.h"

namespace abq::test {
namespace {

constexpr int64_t kHidden = 8;
constexpr int64_t kVocab = 6;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

size_t align(size_t offset) {
  return (offset + 63) / 64 * 64;
}

// Valid packed codes of random values.
uint32_t add_codes(Forge& forge, const std::string& name, proto::ElementType type,
                   const quant::WeightSpec& spec, int64_t n, int64_t k) {
  const quant::PackedLayout layout = quant::PackedLayout::for_weights(spec, n, k);
  Random random(n + k);
  std::string packed(static_cast<size_t>(layout.total_bytes()), '\0');
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  for (int64_t row = 0; row < n; ++row) {
    for (uint8_t& code : codes)
      code = static_cast<uint8_t>(random.below(static_cast<uint64_t>(spec.levels())));
    const auto all = std::as_writable_bytes(std::span(packed));
    quant::pack_row(layout, codes,
                    all.subspan(static_cast<size_t>(row * layout.row_bytes()),
                                static_cast<size_t>(layout.row_bytes())));
  }
  return forge.add_blob(name, type, {n, k}, packed, static_cast<uint32_t>(layout.code_bits));
}

void add_bit_linear(Forge& forge, const std::string& name, proto::ElementType type,
                    const quant::WeightSpec& spec, uint32_t activation_bits, uint32_t input,
                    uint32_t output) {
  const int64_t n = forge.plan.buffers(static_cast<int>(output)).columns();
  const int64_t k = forge.plan.buffers(static_cast<int>(input)).columns();
  proto::Step::BitLinear operation;
  proto::QuantizedWeights* weights = operation.mutable_weights();
  weights->set_codes(add_codes(forge, name + ".codes", type, spec, n, k));
  weights->set_scales(forge.add_floats(name + ".scales", {n, 1}));
  weights->set_zeros(forge.add_blob(name + ".zeros", proto::U8, {n, 1}, std::string(n, '\1')));
  weights->set_bits(static_cast<uint32_t>(spec.bits));
  weights->set_balanced(spec.balanced);
  operation.set_activation_bits(activation_bits);
  operation.set_kernel(activation_bits == 16 ? "cpu.weight_only" : "cpu.int8");
  *forge.add_step(name, {input}, output).mutable_bit_linear() = operation;
}

void add_model_info(proto::ModelInfo* model) {
  model->set_name("tiny");
  model->set_vocab_size(kVocab);
  model->set_hidden_size(kHidden);
  model->set_layers(1);
  model->set_heads(2);
  model->set_kv_heads(1);
  model->set_head_dim(4);
  model->set_intermediate_size(kHidden);
  model->set_context(32);
  model->set_weights(400);
}

}  // namespace

ScratchFolder::ScratchFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "abq_test_XXXXXX").string();
  ABQ_CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> ScratchFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<int64_t>(bytes.size()));
}

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

uint32_t Forge::add_blob(const std::string& name, proto::ElementType type,
                         std::vector<int64_t> shape, std::string bytes, uint32_t code_bits) {
  proto::Blob* blob = plan.add_blobs();
  blob->set_name(name);
  blob->set_type(type);
  blob->mutable_shape()->Assign(shape.begin(), shape.end());
  blob->set_code_bits(code_bits);
  blobs.push_back(std::move(bytes));
  return static_cast<uint32_t>(blobs.size() - 1);
}

uint32_t Forge::add_floats(const std::string& name, std::vector<int64_t> shape) {
  size_t count = 1;
  for (const int64_t dimension : shape)
    count *= static_cast<size_t>(dimension);
  Random random(count);
  std::string bytes(count * sizeof(float), '\0');
  for (size_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(random.uniform()) + 0.1f;
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  }
  return add_blob(name, proto::F32, std::move(shape), std::move(bytes));
}

uint32_t Forge::add_buffer(proto::Buffer::Kind kind, int64_t columns, uint32_t bits) {
  proto::Buffer* buffer = plan.add_buffers();
  buffer->set_kind(kind);
  buffer->set_columns(columns);
  buffer->set_bits(bits);
  buffer->set_slot(static_cast<uint32_t>(plan.buffers_size() - 1));
  return buffer->slot();
}

proto::Step& Forge::add_step(const std::string& name, std::vector<uint32_t> inputs,
                             uint32_t output) {
  proto::Step* step = plan.add_steps();
  step->set_name(name);
  step->mutable_inputs()->Assign(inputs.begin(), inputs.end());
  step->set_output(output);
  return *step;
}

void Forge::place_blobs() {
  size_t end = sizeof(proto::ArtifactHeader);
  for (size_t i = 0; i < blobs.size(); ++i) {
    proto::Blob* blob = plan.mutable_blobs(static_cast<int>(i));
    blob->set_offset(align(end));
    blob->set_size(blobs[i].size());
    blob->set_checksum(checksum64(bytes_of(blobs[i])));
    end = blob->offset() + blob->size();
  }
}

std::string Forge::bytes() const {
  std::string file(sizeof(proto::ArtifactHeader), '\0');
  for (const std::string& blob : blobs) {
    file.resize(align(file.size()));
    file += blob;
  }
  file.resize(align(file.size()));
  const std::string message = plan.SerializeAsString();
  proto::ArtifactHeader header = {};
  std::memcpy(header.magic, proto::kMagic, sizeof(header.magic));
  header.format_version = proto::kFormatVersion;
  header.header_size = sizeof(header);
  header.plan_offset = file.size();
  header.plan_size = message.size();
  header.plan_checksum = checksum64(bytes_of(message));
  header.file_size = file.size() + message.size();
  return with_header(file + message, header);
}

std::string with_header(std::string file, const proto::ArtifactHeader& header) {
  proto::ArtifactHeader signed_header = header;
  const auto bytes = std::as_bytes(std::span(&signed_header, 1));
  signed_header.header_checksum = checksum64(bytes.first(bytes.size() - sizeof(uint64_t)));
  std::memcpy(file.data(), &signed_header, sizeof(signed_header));
  return file;
}

proto::ArtifactHeader header_of(const std::string& file) {
  proto::ArtifactHeader header;
  std::memcpy(&header, file.data(), sizeof(header));
  return header;
}

Forge tiny_model() {
  Forge forge;
  forge.plan.set_format_version(proto::kFormatVersion);
  add_model_info(forge.plan.mutable_model());
  const auto floats = [&](int64_t columns) {
    return forge.add_buffer(proto::Buffer::FLOAT, columns);
  };
  const uint32_t x = floats(kHidden), normed = floats(kHidden);
  const uint32_t tokens = forge.add_buffer(proto::Buffer::TOKENS, kHidden, 8);
  const uint32_t q = floats(8), k = floats(4), v = floats(4), q_rope = floats(8),
                 k_rope = floats(4);
  const uint32_t attended = floats(8), sum = floats(8), gated = floats(8), wide = floats(8);
  const uint32_t projected = floats(8), logits = floats(kVocab);

  const uint32_t table = forge.add_floats("embed", {kVocab, kHidden});
  forge.add_step("embed", {}, x).mutable_embedding()->set_table(table);
  proto::Step& norm = forge.add_step("norm", {x}, normed);
  norm.mutable_rms_norm()->set_weight(forge.add_floats("norm", {kHidden}));
  norm.mutable_rms_norm()->set_eps(1e-5f);
  forge.add_step("quantize", {normed}, tokens).mutable_quantize_tokens()->set_bits(8);
  add_bit_linear(forge, "q", proto::BASE5, {.bits = 2, .balanced = true}, 8, tokens, q);
  add_bit_linear(forge, "k", proto::PLANES, {.bits = 3}, 8, tokens, k);
  add_bit_linear(forge, "v", proto::PLANES, {.bits = 3}, 8, tokens, v);
  const uint32_t frequencies = forge.add_floats("frequencies", {2});
  for (const auto& [name, in, out] : {std::tuple{"rope_q", q, q_rope}, {"rope_k", k, k_rope}}) {
    proto::Step::Rope* rope = forge.add_step(name, {in}, out).mutable_rope();
    rope->set_head_dim(4);
    rope->set_frequencies(frequencies);
  }
  proto::Step::Attention* attention =
      forge.add_step("attention", {q_rope, k_rope, v}, attended).mutable_attention();
  attention->set_heads(2);
  attention->set_kv_heads(1);
  attention->set_head_dim(4);
  attention->set_query_bits(16);
  attention->set_kv_bits(8);
  forge.add_step("add", {x, attended}, sum).mutable_add();
  forge.add_step("silu_mul", {sum, attended}, gated).mutable_silu_mul();
  add_bit_linear(forge, "down", proto::BASE3, {.bits = 1, .balanced = true}, 16, gated, wide);
  forge.add_step("linear", {wide}, projected)
      .mutable_linear()
      ->set_weight(forge.add_floats("linear", {8, 8}));
  forge.add_step("head", {projected}, logits).mutable_linear()->set_weight(table);

  forge.plan.mutable_tokenizer()->set_kind(proto::Tokenizer::HUGGING_FACE_JSON);
  forge.plan.mutable_tokenizer()->set_blob(
      forge.add_blob("tokenizer.json", proto::BYTES, {2}, "{}"));
  forge.plan.mutable_generation()->add_stop_ids(2);
  forge.plan.mutable_self_test()->add_tokens(1);
  forge.plan.mutable_self_test()->add_top_ids(3);
  forge.plan.mutable_self_test()->add_top_logits(0.5f);
  forge.place_blobs();
  return forge;
}

}  // namespace abq::test
