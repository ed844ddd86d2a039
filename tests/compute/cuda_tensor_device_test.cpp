// The CUDA tensor device against the reference, and what is its own: the pool, long attention,
// large uploads.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "compute_test_support.h"
#include "rounding_checks.h"
#include "tensor_device_checks.h"

namespace abq::compute {
namespace {

using Kind = WeightQuantizer::Kind;

std::unique_ptr<TensorDevice> cuda_device() {
  auto device = create_cuda_tensor_device();
  REQUIRE(device.ok());
  return std::move(device).value();
}

void match_reference(const std::vector<TensorCase>& cases) {
  check_matches_reference(*cuda_device(), cases);
}

TEST_CASE("rounding on CUDA: two weights as worked out by hand") {
  check_rounding_by_hand(*cuda_device());
}

TEST_CASE("rounding on CUDA: codes are those of the paper's updates in float64") {
  check_rounding_matches_reference(*cuda_device());
}

TEST_CASE("rounding on CUDA: products in float64 would change nothing") {
  check_rounding_precision(*cuda_device());
}

TEST_CASE("rounding on CUDA: bad inputs are rounded to nearest or refused") {
  check_rounding_of_bad_inputs(*cuda_device());
}

TEST_CASE("tensors on CUDA: products agree with float64") {
  match_reference(product_cases());
}

TEST_CASE("tensors on CUDA: elementwise functions agree with float64") {
  match_reference(elementwise_cases());
}

TEST_CASE("tensors on CUDA: row functions agree with float64") {
  match_reference(row_cases());
}

TEST_CASE("tensors on CUDA: attention agrees with float64") {
  match_reference(attention_cases());
}

TEST_CASE("tensors on CUDA: losses agree with float64") {
  match_reference(loss_cases());
}

TEST_CASE("tensors on CUDA: the divergence of logits agrees with float64") {
  match_reference(logit_cases());
}

TEST_CASE("tensors on CUDA: token quantizers agree with float64") {
  match_reference(token_quantizer_cases());
}

TEST_CASE("tensors on CUDA: weight quantizers agree with float64") {
  match_reference(weight_quantizer_cases());
}

TEST_CASE("tensors on CUDA: rounded weights agree with float64") {
  match_reference(rounded_weight_cases());
}

TEST_CASE("tensors on CUDA: rounded weights are those worked out by hand") {
  check_rounded_weights(*cuda_device());
}

TEST_CASE("tensors on CUDA: the affine weight transform agrees with float64") {
  match_reference(affine_cases());
}

TEST_CASE("tensors on CUDA: AdamW agrees with float64") {
  match_reference(optimizer_cases());
}

TEST_CASE("tensors on CUDA are copied, viewed and assigned") {
  check_memory(*cuda_device());
}

TEST_CASE("tensors on CUDA show NaN in losses") {
  check_shows_nan(*cuda_device());
}

TEST_CASE("tensors on CUDA show NaN in statistics and clip factors and quantize NaN as code 0") {
  check_nan_of_ranges(*cuda_device());
}

TEST_CASE("tensors on CUDA survive a failed allocation in shape only") {
  check_sticky_error(*cuda_device());
}

// Contexts that attention multiplies in blocks, forward and backward in one chain.
std::vector<TensorCase> long_attention_cases() {
  struct Shape {
    AttentionShape attention;
    int64_t context, batch;
  };
  std::vector<TensorCase> cases;
  for (const Shape& s : {Shape{{2, 1, 8, 0}, 512, 1}, Shape{{4, 2, 16, 0}, 701, 1},
                         Shape{{2, 1, 8, 300}, 1000, 2}, Shape{{2, 2, 64, 256}, 800, 1}}) {
    const AttentionShape a = s.attention;
    const int64_t context = s.context, rows = s.batch * context;
    const int64_t heads = a.heads, kv_heads = a.kv_heads, d = a.head_dim;
    // As in attention_cases(); the chain passes errors of one function on to the next.
    const double steps = 8 * steps_of_sum(d) + 4 * steps_of_sum(context * heads / kv_heads);
    cases.push_back(
        {"long attention " + std::to_string(context),
         {random_matrix(rows, heads * d, 1), random_matrix(rows, kv_heads * d, 2),
          random_matrix(rows, kv_heads * d, 3), random_matrix(rows, heads * d, 4)},
         steps,
         [a, context](TensorDevice& device, std::span<const Tensor> t) -> std::vector<Tensor> {
           const Tensor p = device.attention_weights(a, context, t[0], t[1]);
           const Tensor y = device.attention_mix(a, context, p, t[2]);
           const TensorPair mixed = device.attention_mix_backward(a, context, p, t[2], t[3]);
           const TensorPair scored =
               device.attention_weights_backward(a, context, t[0], t[1], p, mixed.first);
           return {p, y, mixed.first, mixed.second, scored.first, scored.second};
         }});
  }
  return cases;
}

TEST_CASE("tensors on CUDA: attention over long contexts agrees with float64") {
  match_reference(long_attention_cases());
}

TEST_CASE("tensors on CUDA have the same bits on a second device") {
  const auto one = cuda_device(), other = cuda_device();
  for (const TensorCase& c : all_tensor_cases()) {
    CAPTURE(c.name);
    const auto first = results_on(*one, c), second = results_on(*other, c);
    REQUIRE(first.size() == second.size());
    for (size_t i = 0; i < first.size(); ++i)
      CHECK(std::memcmp(first[i].data(), second[i].data(), 4 * first[i].size()) == 0);
  }
}

// ---- Quantizers: the CPU's are quant's in every bit (tensor_quantizer_test.cpp), so these are
// when they are the CPU's.

int64_t different_bits(const std::vector<float>& a, const std::vector<float>& b) {
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i)
    count += std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]) ? 0 : 1;
  return count;
}

// Normal rows, rows on one side of zero, zero and almost zero rows, rows full of halves.
std::vector<float> quantizer_values(int64_t rows, int64_t cols) {
  std::vector<float> x = random_floats(rows * cols, 7);
  for (int64_t i = 0; i < rows * cols; ++i) {
    float& v = x[static_cast<size_t>(i)];
    switch (i / cols % 8) {
      case 1:
        v = std::abs(v);
        break;
      case 2:
        v = -std::abs(v);
        break;
      case 3:
        v = 0.0f;
        break;
      case 4:
        v *= 1e-9f;
        break;
      case 5:
        v = 1.0f + 0.01f * v;
        break;
      case 6:
        v = std::round(4.0f * v) / 8.0f;
        break;
      default:
        break;
    }
  }
  return x;
}

TEST_CASE("fake_quantize_tokens on CUDA is the CPU's in every bit") {
  const auto cuda = cuda_device(), cpu = create_cpu_tensor_device();
  const int64_t rows = 64;
  for (const int64_t segment : {1, 7, 64, 517, 4096}) {
    const int64_t cols = segment < 100 ? 3 * segment : segment;
    const std::vector<float> x = quantizer_values(rows, cols);
    for (int bits = 1; bits <= 8; ++bits) {
      std::vector<float> got(x.size()), expected(x.size());
      cuda->download(cuda->fake_quantize_tokens(cuda->upload(x, rows, cols), bits, segment), got);
      cpu->download(cpu->fake_quantize_tokens(cpu->upload(x, rows, cols), bits, segment), expected);
      CAPTURE(bits);
      CAPTURE(segment);
      CHECK(different_bits(got, expected) == 0);
    }
  }
}

TEST_CASE("fake_quantize_weight on CUDA is the CPU's in every bit") {
  const auto cuda = cuda_device(), cpu = create_cpu_tensor_device();
  const int64_t rows = 40, cols = 192;
  const std::vector<float> w = quantizer_values(rows, cols);
  for (const int64_t group : {0, 64}) {
    const int64_t groups = group == 0 ? 1 : cols / group;
    std::vector<float> clip = random_floats(rows * groups, 3);
    for (float& v : clip)
      v = 0.3f + 0.7f / (1.0f + std::exp(-v));
    for (int bits = 1; bits <= 8; ++bits) {
      // Asymmetric, symmetric, and their balanced kin with one level more.
      const int levels = 1 << bits, zero = levels / 2;
      for (const WeightQuantizer& quantizer :
           {WeightQuantizer{Kind::kAsymmetric, levels, levels - 1, zero, group},
            WeightQuantizer{Kind::kAsymmetric, levels + 1, levels, zero, group},
            WeightQuantizer{Kind::kSymmetric, levels, levels - 1, zero, group},
            WeightQuantizer{Kind::kSymmetric, levels + 1, levels, zero, group}}) {
        for (const bool clipped : {false, true}) {
          const auto run = [&](TensorDevice& device) {
            const Tensor factors = clipped ? device.upload(clip, rows, groups) : Tensor();
            std::vector<float> y(w.size());
            device.download(device.fake_quantize_weight(device.upload(w, rows, cols), factors,
                                                        factors, quantizer),
                            y);
            return y;
          };
          CAPTURE(quantizer.levels);
          CAPTURE(group);
          CAPTURE(clipped);
          CHECK(different_bits(run(*cuda), run(*cpu)) == 0);
        }
      }
    }
  }
}

TEST_CASE("rounded_weight on CUDA is the CPU's in every bit") {
  const auto cuda = cuda_device(), cpu = create_cpu_tensor_device();
  for (const TensorCase& c : rounded_weight_cases()) {
    if (c.steps != 0) continue;  // the sums of the way back have an order of their own
    CAPTURE(c.name);
    CHECK(different_bits(results_on(*cuda, c)[0], results_on(*cpu, c)[0]) == 0);
  }
}

TEST_CASE("hadamard on CUDA is the CPU's in every bit") {
  const auto cuda = cuda_device(), cpu = create_cpu_tensor_device();
  const int64_t rows = 40;
  for (const int64_t size : {2, 64, 128, 1024, 4096, 12, 24, 384, 5120, 11008, 14336}) {
    const int64_t cols = size < 1024 ? 3 * size : size;
    const std::vector<float> x = random_floats(rows * cols, 8);
    for (const bool transposed : {false, true}) {
      std::vector<float> got(x.size()), expected(x.size());
      cuda->download(cuda->hadamard(cuda->upload(x, rows, cols), size, transposed), got);
      cpu->download(cpu->hadamard(cpu->upload(x, rows, cols), size, transposed), expected);
      CAPTURE(size);
      CAPTURE(transposed);
      CHECK(different_bits(got, expected) == 0);
    }
  }
}

// ---- Memory

TEST_CASE("tensors on CUDA come from the pool once it has seen their shapes") {
  const auto device = cuda_device();
  const auto step = [&] {
    const Tensor x = device->filled(300, 400, 1.0f);
    const Tensor y = device->linear(x, x);
    return y.data();
  };
  const void* const first = step();
  const int64_t peak = device->peak_bytes();
  CHECK(peak >= 4 * (300 * 400 + 300 * 300));
  const int64_t free = device->free_bytes();
  for (int i = 0; i < 3; ++i)
    CHECK(step() == first);
  CHECK(device->peak_bytes() == peak);
  CHECK(device->free_bytes() == free);
}

TEST_CASE("uploads to CUDA that share memory and buffers keep their order") {
  const auto device = cuda_device();
  const int64_t rows = 2500, cols = 1003;  // more than one staging buffer
  std::vector<float> sums(static_cast<size_t>(rows * cols), 0.0f), got(sums.size());
  const Tensor total = device->filled(rows, cols, 0.0f);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    // Each upload takes the block that the last one has left with its reader still running.
    const std::vector<float> x = random_floats(rows * cols, seed);
    device->accumulate(total, device->upload(x, rows, cols), 1.0f);
    for (size_t i = 0; i < x.size(); ++i)
      sums[i] += x[i];
  }
  device->download(total, got);
  CHECK(got == sums);
  CHECK(device->status().ok());
}

TEST_CASE("a tensor on CUDA outlives its device") {
  Tensor x = cuda_device()->filled(3, 5, 2.0f);
  CHECK(x.rows() == 3);
  x = Tensor();
  CHECK(cuda_device()->status().ok());
}

TEST_CASE("unused memory of the CUDA pool is given up for a matrix of another size") {
  const auto device = cuda_device();
  const int64_t rows = device->free_bytes() / 4096;
  { const Tensor most = device->allocate(rows / 10 * 6, 1024); }
  const Tensor more = device->allocate(rows / 10 * 7, 1024);
  CHECK(device->status().ok());
  CHECK(device->peak_bytes() >= rows / 10 * 7 * 4096);
}

TEST_CASE("CUDA's out of memory says how much was needed and what to lower") {
  const auto device = cuda_device();
  const int64_t rows = device->free_bytes() / 2048;
  const Tensor x = device->allocate(rows, 1024);
  CHECK(x.rows() == rows);
  const Status status = device->status();
  CHECK(status.code() == StatusCode::kDevice);
  const std::string text = status.message();
  CAPTURE(text);
  CHECK(text.find(std::to_string(rows * 4096) + " bytes") != std::string::npos);
  CHECK(text.find("lower the batch or the context") != std::string::npos);
}

}  // namespace
}  // namespace abq::compute
