#include "runtime/cuda/bench/cuda_device_linear.h"

#include <algorithm>

#include "runtime/cuda/bench/graph_timer.h"
#include "runtime/cuda/token_kernels.h"

namespace abq::runtime::cuda {
namespace {

constexpr float kNormEps = 1e-5f;
// Launches of a graph: as many as take some milliseconds.
constexpr int kLongLaunches = 20;
constexpr int64_t kLongTokens = 64;

template <class T>
const T* moved(const T* pointer, const uint8_t* from, const uint8_t* to) {
  if (pointer == nullptr) return nullptr;
  return reinterpret_cast<const T*>(to + (reinterpret_cast<const uint8_t*>(pointer) - from));
}

int64_t aligned(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

Status upload_rows(MatrixView<const float> rows, float* to) {
  const size_t width = static_cast<size_t>(rows.cols) * sizeof(float);
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpy2D(to, width, rows.data, static_cast<size_t>(rows.stride) * sizeof(float), width,
                   static_cast<size_t>(rows.rows), cudaMemcpyHostToDevice),
      "upload of {} rows of {} values", rows.rows, rows.cols);
  return {};
}

}  // namespace

Result<std::unique_ptr<CudaDeviceLinear>> CudaDeviceLinear::create(const StoredWeights& weights,
                                                                   int activation_bits) {
  const StoredWeights* const parts[] = {&weights};
  ABQ_ASSIGN_OR_RETURN(const TilesPlan plan, plan_tiles(parts, false));
  std::unique_ptr<CudaDeviceLinear> linear(new CudaDeviceLinear(plan, activation_bits));
  ABQ_ASSIGN_OR_RETURN(linear->memory_, DeviceArray<uint8_t>::create(plan.bytes));
  ABQ_ASSIGN_OR_RETURN(linear->weights_, fill_tiles(plan, parts, linear->memory_.data(), nullptr));
  const std::vector<float> ones(static_cast<size_t>(plan.shape.k), 1.0f);
  ABQ_ASSIGN_OR_RETURN(linear->norm_weights_, DeviceArray<float>::create(plan.shape.k));
  ABQ_RETURN_IF_ERROR(linear->norm_weights_.upload(ones));
  return linear;
}

LinearProblem CudaDeviceLinear::problem(int64_t m) const {
  return {.planes = weights_.planes,
          .encoding = weights_.encoding,
          .group_size = weights_.group_size,
          .activation_bits = activation_bits_,
          .m = m,
          .n = weights_.n,
          .k = weights_.k};
}

std::vector<std::string> CudaDeviceLinear::kernels(int64_t m) const {
  const LinearKernel chosen = choose_kernel(problem(m));
  std::vector<std::string> names = {std::string(linear_kernel_name(chosen))};
  for (const LinearKernel kernel : kLinearKernels) {
    if (kernel != chosen && can_run(kernel, problem(m)).ok())
      names.emplace_back(linear_kernel_name(kernel));
  }
  return names;
}

Result<LinearKernel> CudaDeviceLinear::find(std::string_view kernel) const {
  if (tokens_.m() == 0) return invalid_argument("{}: no input; call set_input() first", kernel);
  for (const LinearKernel candidate : kLinearKernels) {
    if (linear_kernel_name(candidate) != kernel) continue;
    ABQ_RETURN_IF_ERROR(can_run(candidate, problem(tokens_.m())));
    return candidate;
  }
  return not_found("{}: no such kernel of the device cuda", kernel);
}

Status CudaDeviceLinear::set_input(MatrixView<const float> x) {
  if (x.cols != weights_.k || x.rows < 1) {
    return invalid_argument("cuda: input [{}, {}] for a linear of {} inputs", x.rows, x.cols,
                            weights_.k);
  }
  const int m = static_cast<int>(x.rows);
  ABQ_ASSIGN_OR_RETURN(x_, DeviceArray<float>::create(x.rows * x.cols));
  ABQ_ASSIGN_OR_RETURN(y_, DeviceArray<float>::create(x.rows * weights_.n));
  ABQ_ASSIGN_OR_RETURN(tokens_, TokenMemory::create(m, weights_.k, activation_bits_));
  ABQ_RETURN_IF_ERROR(upload_rows(x, x_.data()));
  const ConstRows rows(x_.data(), x.cols, m, static_cast<int>(x.cols));
  if (tokens_.halves()) {
    ABQ_ASSIGN_OR_RETURN(normed_, DeviceArray<float>::create(x.rows * x.cols));
    ABQ_RETURN_IF_ERROR(split_halves(rows, tokens_.half_tokens(), nullptr));
  } else {
    ABQ_RETURN_IF_ERROR(quantize(rows, tokens_.tiles(true, true), nullptr));
  }
  ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "quantization of {} tokens", m);
  return {};
}

Result<quant::QuantizedTokens> CudaDeviceLinear::input_codes() const {
  return tokens_.download();
}

Status CudaDeviceLinear::enqueue(LinearKernel kernel, const WeightTiles& weights,
                                 const LinearOutput& output, cudaStream_t stream) {
  if (token_form(kernel) == TokenForm::kHalves)
    return run_half_linear(weights, tokens_.half_tokens(), output, stream);
  return run_linear(kernel, weights, tokens_.tiles(true, true), output, stream);
}

Status CudaDeviceLinear::enqueue_input(LinearKernel kernel, cudaStream_t stream) {
  const int k = weights_.k;
  const ConstRows rows(x_.data(), k, tokens_.m(), k);
  if (token_form(kernel) == TokenForm::kHalves) {
    const Rows normed{normed_.data(), k, tokens_.m(), k};
    ABQ_RETURN_IF_ERROR(rms_norm(rows, norm_weights_.data(), kNormEps, normed, stream));
    return split_halves(normed, tokens_.half_tokens(), stream);
  }
  const bool planes = token_form(kernel) == TokenForm::kPlanes;
  return rms_norm_quantize(rows, norm_weights_.data(), kNormEps, {}, tokens_.tiles(planes, !planes),
                           stream);
}

Status CudaDeviceLinear::run(std::string_view kernel, MatrixView<float> y,
                             const MatrixView<const float>* residual) {
  ABQ_ASSIGN_OR_RETURN(const LinearKernel found, find(kernel));
  if (y.rows != tokens_.m() || y.cols != weights_.n)
    return invalid_argument("{}: output [{}, {}], expected [{}, {}]", kernel, y.rows, y.cols,
                            tokens_.m(), weights_.n);
  LinearOutput output;
  output.y = y_.data();
  output.stride = weights_.n;
  // NaN wherever the kernel does not write.
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(y_.data(), 0xff, static_cast<size_t>(y_.bytes())),
                           "fill of {} outputs", y_.size());
  DeviceArray<float> added;
  if (residual != nullptr) {
    ABQ_ASSIGN_OR_RETURN(added, DeviceArray<float>::create(y_.size()));
    ABQ_RETURN_IF_ERROR(upload_rows(*residual, added.data()));
    output.residual = added.data();
    output.residual_stride = weights_.n;
  }
  ABQ_RETURN_IF_ERROR(enqueue(found, weights_, output, nullptr));
  const size_t width = static_cast<size_t>(weights_.n) * sizeof(float);
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpy2D(y.data, static_cast<size_t>(y.stride) * sizeof(float), y_.data(), width, width,
                   static_cast<size_t>(y.rows), cudaMemcpyDeviceToHost),
      "{}: M={} N={} K={}", kernel, y.rows, weights_.n, weights_.k);
  return {};
}

Status CudaDeviceLinear::accumulate(std::string_view kernel, std::span<int64_t> sums) {
  ABQ_ASSIGN_OR_RETURN(const LinearKernel found, find(kernel));
  const int64_t count = static_cast<int64_t>(tokens_.m()) * weights_.n * weights_.groups;
  if (static_cast<int64_t>(sums.size()) != count)
    return invalid_argument("{}: room for {} sums, expected {}", kernel, sums.size(), count);
  ABQ_ASSIGN_OR_RETURN(DeviceArray<int64_t> raw, DeviceArray<int64_t>::create(count));
  ABQ_RETURN_IF_CUDA_ERROR(cudaMemset(raw.data(), 0x5a, static_cast<size_t>(raw.bytes())),
                           "fill of {} sums", count);
  LinearOutput output;
  output.y = y_.data();
  output.stride = weights_.n;
  output.raw = raw.data();
  ABQ_RETURN_IF_ERROR(enqueue(found, weights_, output, nullptr));
  ABQ_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(sums.data(), raw.data(), sums.size_bytes(), cudaMemcpyDeviceToHost),
      "{}: sums of M={} N={} K={}", kernel, tokens_.m(), weights_.n, weights_.k);
  return {};
}

Status CudaDeviceLinear::make_copies() {
  if (copy_count_ > 0) return {};
  const int64_t stride = aligned(plan_.bytes);
  ABQ_ASSIGN_OR_RETURN(const int count, cold_copies(stride));
  ABQ_ASSIGN_OR_RETURN(copies_, DeviceArray<uint8_t>::create(count * stride));
  for (int i = 0; i < count; ++i) {
    ABQ_RETURN_IF_CUDA_ERROR(cudaMemcpy(copies_.data() + i * stride, memory_.data(),
                                        static_cast<size_t>(plan_.bytes), cudaMemcpyDeviceToDevice),
                             "copy of {} bytes of weights", plan_.bytes);
  }
  ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "{} copies of weights", count);
  copy_count_ = count;
  return {};
}

WeightTiles CudaDeviceLinear::copy(int index) const {
  const uint8_t* const to = copies_.data() + index % copy_count_ * aligned(plan_.bytes);
  WeightTiles view = weights_;
  view.tiles = moved(weights_.tiles, memory_.data(), to);
  view.scales = moved(weights_.scales, memory_.data(), to);
  view.zeros = moved(weights_.zeros, memory_.data(), to);
  view.sums = moved(weights_.sums, memory_.data(), to);
  return view;
}

Result<KernelTiming> CudaDeviceLinear::time(std::string_view kernel) {
  ABQ_ASSIGN_OR_RETURN(const LinearKernel found, find(kernel));
  ABQ_RETURN_IF_ERROR(make_copies());
  LinearOutput output;
  output.y = y_.data();
  output.stride = weights_.n;
  const int launches = tokens_.m() > kLongTokens ? kLongLaunches : kGraphLaunches;
  KernelTiming timing;
  timing.weight_bytes = plan_.bytes;
  ABQ_ASSIGN_OR_RETURN(timing.cold_us, time_graph(launches, [&](int i, cudaStream_t stream) {
                         return enqueue(found, copy(i), output, stream);
                       }));
  ABQ_ASSIGN_OR_RETURN(timing.warm_us, time_graph(launches, [&](int, cudaStream_t stream) {
                         return enqueue(found, copy(0), output, stream);
                       }));
  ABQ_ASSIGN_OR_RETURN(timing.pair_us,
                       time_graph(launches, [&](int i, cudaStream_t stream) -> Status {
                         ABQ_RETURN_IF_ERROR(enqueue_input(found, stream));
                         return enqueue(found, copy(i), output, stream);
                       }));
  // The pairs wrote tokens of the normalised input: the input proper comes back.
  const ConstRows rows(x_.data(), weights_.k, tokens_.m(), weights_.k);
  ABQ_RETURN_IF_ERROR(tokens_.halves() ? split_halves(rows, tokens_.half_tokens(), nullptr)
                                       : quantize(rows, tokens_.tiles(true, true), nullptr));
  ABQ_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "{}: after timing", kernel);
  return timing;
}

}  // namespace abq::runtime::cuda
