#include <doctest/doctest.h>

#include <limits>

#include "artifact_forge.h"
#include "backend/backend.h"
#include "quant/affine.h"
#include "quant/packed_layout.h"
#include "runtime/plan.h"
#include "support/random.h"

using namespace abq;
using namespace abq::test;
using backend::ArtifactWriter;
using backend::PlanBuilder;
using ir::Op;

namespace {

constexpr int64_t kHidden = 16;
constexpr int64_t kVocab = 10;

ir::Tensor random_tensor(std::vector<int64_t> shape, uint64_t seed) {
  int64_t count = 1;
  for (const int64_t dimension : shape)
    count *= dimension;
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  return ir::make_f32_tensor(std::move(shape), values);
}

ir::Type floats(int64_t columns) {
  return {ir::ElementType::kF32, 0, {ir::kTokenDim, columns}};
}

ir::ElementType packed_type(quant::Encoding encoding) {
  if (encoding == quant::Encoding::kBase5) return ir::ElementType::kBase5;
  if (encoding == quant::Encoding::kBase3) return ir::ElementType::kBase3;
  return ir::ElementType::kPlanes;
}

// A quantized linear with packed random weights [n, k].
ir::ValueId bit_linear(ir::Builder& builder, const std::string& name, ir::ValueId x, int64_t n,
                       int64_t k, const quant::WeightSpec& spec) {
  std::vector<float> values(static_cast<size_t>(n * k));
  Random random(static_cast<uint64_t>(n + k));
  for (float& value : values)
    value = static_cast<float>(random.normal());
  const auto quantized = quant::quantize_weights({values.data(), n, k}, spec);
  REQUIRE(quantized.ok());
  const quant::PackedLayout layout = quant::PackedLayout::for_weights(spec, n, k);
  std::vector<std::byte> packed(static_cast<size_t>(layout.total_bytes()));
  for (int64_t row = 0; row < n; ++row) {
    quant::pack_row(
        layout,
        std::span(quantized->codes).subspan(static_cast<size_t>(row * k), static_cast<size_t>(k)),
        std::span(packed).subspan(static_cast<size_t>(row * layout.row_bytes()),
                                  static_cast<size_t>(layout.row_bytes())));
  }
  const int64_t groups = spec.groups(k);
  const ir::Tensor codes = ir::make_tensor(packed_type(layout.encoding), layout.code_bits, {n, k},
                                           ir::TensorData::owned(packed));
  const ir::Tensor zeros = ir::make_tensor(ir::ElementType::kU8, 0, {n, groups},
                                           ir::TensorData::from_vector(quantized->zeros));
  const ir::ValueId c = builder.weight(name + ".weight", codes);
  const ir::ValueId s =
      builder.weight(name + ".weight.scales", ir::make_f32_tensor({n, groups}, quantized->scales));
  const ir::ValueId z = builder.weight(name + ".weight.zeros", zeros);
  return builder.node(Op::kBitLinear, name, {x, c, s, z}, floats(n),
                      {{"bits", int64_t{spec.bits}},
                       {"balanced", int64_t{spec.balanced}},
                       {"group_size", int64_t{spec.group_size}},
                       {"symmetric", int64_t{spec.symmetric}}});
}

void add_block(ir::Module& module, int64_t layer, const quant::WeightSpec& spec) {
  ir::Region& region = module.regions.emplace_back();
  region.kind = ir::RegionKind::kBlock;
  region.name = "layers." + std::to_string(layer);
  ir::Builder builder(module, region);
  const auto name = [&](const char* part) { return region.name + "." + part; };
  const ir::ValueId x = builder.argument("x", floats(kHidden));
  const ir::ValueId norm_weight = builder.weight(name("norm"), random_tensor({kHidden}, 1));
  const ir::ValueId normed = builder.rms_norm(name("norm"), x, norm_weight, 1e-5);
  const ir::ValueId codes =
      builder.node(Op::kQuantizeTokens, name("quantize"), {normed},
                   {ir::ElementType::kTokens, 8, {ir::kTokenDim, kHidden}}, {{"bits", int64_t{8}}});
  const ir::ValueId q = bit_linear(builder, name("q"), codes, kHidden, kHidden, spec);
  const ir::ValueId k = bit_linear(builder, name("k"), codes, kHidden / 2, kHidden, spec);
  const ir::ValueId v = bit_linear(builder, name("v"), codes, kHidden / 2, kHidden, spec);
  const ir::ValueId qr = builder.rope(name("rope_q"), q, 8, "frequencies");
  const ir::ValueId kr = builder.rope(name("rope_k"), k, 8, "frequencies");
  const ir::ValueId attended =
      builder.node(Op::kAttention, name("attention"), {qr, kr, v}, floats(kHidden),
                   {{"layer", layer},
                    {"heads", int64_t{2}},
                    {"kv_heads", int64_t{1}},
                    {"head_dim", int64_t{8}},
                    {"window", int64_t{0}},
                    {"query_bits", int64_t{16}},
                    {"kv_bits", int64_t{8}}});
  const ir::ValueId sum = builder.add(name("add"), x, attended);
  builder.result(builder.silu_mul(name("silu_mul"), sum, attended));
}

// Embedding, `layers` blocks, a head tied to the embedding.
ir::Module make_module(int64_t layers, const quant::WeightSpec& spec) {
  ir::Module module;
  module.name = "tiny";
  for (const auto& [key, value] : std::map<std::string, int64_t>{{"vocab_size", kVocab},
                                                                 {"hidden_size", kHidden},
                                                                 {"layers", layers},
                                                                 {"heads", 2},
                                                                 {"kv_heads", 1},
                                                                 {"head_dim", 8},
                                                                 {"intermediate_size", kHidden},
                                                                 {"context", 64}}) {
    module.attributes[key] = value;
  }
  module.attributes["family"] = std::string("llama");
  module.tensors["frequencies"] = ir::make_f32_tensor({4}, {1.0f, 0.1f, 0.01f, 0.001f});
  {
    ir::Region& region = module.regions.emplace_back();
    region.kind = ir::RegionKind::kEmbed;
    region.name = "embed";
    ir::Builder builder(module, region);
    const ir::ValueId tokens =
        builder.argument("tokens", {ir::ElementType::kI32, 0, {ir::kTokenDim}});
    const ir::ValueId table = builder.weight("embed.weight", random_tensor({kVocab, kHidden}, 2));
    builder.result(builder.embedding("embed", tokens, table));
  }
  for (int64_t layer = 0; layer < layers; ++layer)
    add_block(module, layer, spec);
  ir::Region& region = module.regions.emplace_back();
  region.kind = ir::RegionKind::kHead;
  region.name = "head";
  ir::Builder builder(module, region);
  const ir::ValueId x = builder.argument("x", floats(kHidden));
  const ir::ValueId table = builder.weight("embed.weight", {});
  builder.result(builder.linear("head", x, table));
  return module;
}

struct Built {
  ScratchFolder folder;
  std::unique_ptr<ArtifactWriter> writer;
  std::unique_ptr<PlanBuilder> builder;

  Built() {
    auto created = ArtifactWriter::create(folder.file("model.abq"), {});
    REQUIRE(created.ok());
    writer = std::move(created).value();
    builder = std::make_unique<PlanBuilder>(*writer);
  }
  Status lower_all(const ir::Module& module) {
    for (const ir::Region& region : module.regions)
      ABQ_RETURN_IF_ERROR(builder->lower(module, region));
    return {};
  }
};

int count_steps(const proto::Plan& plan, proto::Step::OperationCase operation) {
  int count = 0;
  for (const proto::Step& step : plan.steps())
    count += step.operation_case() == operation ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("a lowered module is a plan that the reader accepts") {
  for (const char* scheme : {"w2ba8", "w1ba8", "w1a8", "w3a8", "w8a8"}) {
    Built built;
    const ir::Module module = make_module(3, quant::parse_scheme(scheme)->weights);
    REQUIRE(built.lower_all(module).ok());
    const auto plan = built.builder->finish(module);
    REQUIRE_MESSAGE(plan.ok(), plan.status().to_string());
    REQUIRE(built.writer->write_plan(*plan).ok());
    const auto loaded =
        runtime::LoadedPlan::open(built.writer->temporary_path(), runtime::Verify::kAll);
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    const proto::Plan& read = (*loaded)->plan();
    CHECK(count_steps(read, proto::Step::kBitLinear) == 9);
    CHECK(count_steps(read, proto::Step::kAttention) == 3);
    CHECK(read.steps(0).name() == "embed");
    CHECK(read.steps(read.steps_size() - 1).name() == "head");
    CHECK(read.model().family() == "llama");
    CHECK(built.builder->kernels().size() == 9);
    CHECK(built.builder->kernels().at("layers.1.q") == read.steps(13).bit_linear().kernel());
  }
}

TEST_CASE("tied embeddings and shared frequencies are stored once") {
  Built built;
  const ir::Module module = make_module(2, {.bits = 4});
  REQUIRE(built.lower_all(module).ok());
  const auto plan = built.builder->finish(module);
  REQUIRE(plan.ok());
  const proto::Step& head = plan->steps(plan->steps_size() - 1);
  CHECK(head.linear().weight() == plan->steps(0).embedding().table());
  // embedding, frequencies, and per layer a norm and three linears of three blobs
  CHECK(plan->blobs_size() == 2 + 2 * (1 + 3 * 3));
  CHECK(plan->model().weights() ==
        kVocab * kHidden + 2 * (kHidden + kHidden * kHidden + kHidden * kHidden));
}

TEST_CASE("a tensor replaced between regions is not mistaken for the old one") {
  Built built;
  ir::Module module = make_module(1, {.bits = 4});
  REQUIRE(built.builder->lower(module, module.regions[0]).ok());
  REQUIRE(built.builder->lower(module, module.regions[1]).ok());
  module.tensors["embed.weight"] = random_tensor({kVocab, kHidden}, 99);
  REQUIRE(built.builder->lower(module, module.regions[2]).ok());
  const auto plan = built.builder->finish(module);
  REQUIRE(plan.ok());
  CHECK(plan->steps(plan->steps_size() - 1).linear().weight() !=
        plan->steps(0).embedding().table());
}

TEST_CASE("tensors freed after their region are still shared") {
  Built built;
  ir::Module module = make_module(1, {.bits = 4});
  REQUIRE(built.builder->lower(module, module.regions[0]).ok());
  REQUIRE(built.builder->lower(module, module.regions[1]).ok());
  module.tensors["embed.weight"].data = {};
  REQUIRE(built.builder->lower(module, module.regions[2]).ok());
  const auto plan = built.builder->finish(module);
  REQUIRE(plan.ok());
  CHECK(plan->steps(plan->steps_size() - 1).linear().weight() ==
        plan->steps(0).embedding().table());
}

TEST_CASE("weights without bytes are refused by name") {
  Built built;
  ir::Module module = make_module(1, {.bits = 4});
  module.tensors["embed.weight"].data = {};
  const Status status = built.lower_all(module);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "embed: embed.weight: has no bytes; a plan needs the weights");
}

TEST_CASE("NaN and Inf in weights that no pass looks at are refused by name and place") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Built built;
    ir::Module module = make_module(1, {.bits = 4});
    std::vector<float> values(kVocab * kHidden, 0.5f);
    values[kHidden + 3] = bad;
    module.tensors["embed.weight"] = ir::make_f32_tensor({kVocab, kHidden}, values);
    const Status status = built.lower_all(module);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.message() ==
          "embed: embed.weight: row 1, column 3 is NaN or Inf; expected finite weights");
  }
}

TEST_CASE("codes that were not packed are refused with the pass that packs them") {
  Built built;
  ir::Module module = make_module(1, {.bits = 4});
  for (ir::Value& value : module.regions[1].values) {
    if (value.type.element == ir::ElementType::kPlanes) value.type.element = ir::ElementType::kU8;
  }
  const Status status = built.lower_all(module);
  CHECK(status.message() == "layers.0.q: codes are not packed; run pack-weights first");
}

TEST_CASE("a module without its sizes cannot become a plan") {
  Built built;
  ir::Module module = make_module(1, {.bits = 4});
  REQUIRE(built.lower_all(module).ok());
  module.attributes.erase("context");
  CHECK(built.builder->finish(module).status().message() ==
        "module tiny: attribute context is missing");
}

TEST_CASE("activation memory does not grow with the number of layers") {
  const auto slots = [](int64_t layers) {
    Built built;
    const ir::Module module = make_module(layers, {.bits = 4});
    REQUIRE(built.lower_all(module).ok());
    const auto plan = built.builder->finish(module);
    REQUIRE(plan.ok());
    uint32_t highest = 0;
    for (const proto::Buffer& buffer : plan->buffers())
      highest = std::max(highest, buffer.slot());
    return highest + 1;
  };
  CHECK(slots(8) == slots(2));
  CHECK(slots(8) <= 7);
}

TEST_CASE("bits per weight count codes, scales, zero points, padding and records") {
  proto::Plan plan;
  const auto add_blob = [&](uint64_t size, std::vector<int64_t> shape) {
    proto::Blob* blob = plan.add_blobs();
    blob->set_size(size);
    blob->mutable_shape()->Assign(shape.begin(), shape.end());
  };
  add_blob(3000, {100, 120});
  add_blob(400, {100, 1});
  add_blob(100, {100, 1});
  add_blob(9999, {10, 100});
  proto::Step* linear = plan.add_steps();
  linear->mutable_bit_linear()->mutable_weights()->set_codes(0);
  linear->mutable_bit_linear()->mutable_weights()->set_scales(1);
  linear->mutable_bit_linear()->mutable_weights()->set_zeros(2);
  linear->set_name(std::string(200, 'n'));
  plan.add_steps()->mutable_linear()->set_weight(3);  // the head does not count
  plan.mutable_model()->set_weights(1000);
  // Sizes rounded up to 64, and each record as it stands in the plan: without the head, the plan
  // holds exactly those records.
  proto::Plan records = plan;
  records.clear_model();
  records.mutable_steps()->RemoveLast();
  records.mutable_blobs()->RemoveLast();
  const double bytes = 3008 + 448 + 128 + static_cast<double>(records.ByteSizeLong());
  CHECK(backend::block_linear_bits(plan) == doctest::Approx(8 * bytes / 12000));
  CHECK(backend::file_bits(plan, 4000) == 32);
  CHECK(backend::block_linear_bits({}) == 0);
  CHECK(backend::file_bits({}, 4000) == 0);
}
