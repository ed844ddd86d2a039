#include "runtime/cuda/cudnn/attention_graph.h"

#include <array>

namespace abq::runtime::cuda {
namespace {

using Descriptor = cudnnBackendDescriptor_t;
using Extents = std::array<int64_t, 4>;  // batch, head, row, column

constexpr int64_t kAlignment = 16;  // of tensors in device memory
constexpr int64_t kRowAxis = 2;
constexpr int64_t kColumnAxis = 3;

enum class Residence { kDevice, kHost, kVirtual };

class GraphWriter {
 public:
  GraphWriter(const FusedAttentionShape& shape, CudnnDescriptors& descriptors)
      : shape_(shape), d_(descriptors) {}

  Descriptor write(cudnnHandle_t handle) {
    const Descriptor masked = mask(scaled_scores());
    const Descriptor probabilities = softmax(masked);
    product(probabilities, values(), output(), CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC,
            "probabilities values");
    const Descriptor graph = d_.create(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    d_.set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
           std::span<const Descriptor>(operations_));
    if (handle != nullptr)
      d_.set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
    d_.finalize(graph, "attention graph");
    return graph;
  }

 private:
  Descriptor tensor(int64_t id, cudnnDataType_t type, const Extents& extents,
                    const Extents& strides, Residence residence) {
    const Descriptor t = d_.create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d_.set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
    d_.set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
    d_.set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::span<const int64_t>(extents));
    d_.set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const int64_t>(strides));
    d_.set(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment);
    d_.set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, residence == Residence::kVirtual);
    d_.set(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, residence == Residence::kHost);
    d_.finalize(t, fmt::format("tensor {}", id));
    return t;
  }
  Descriptor scalar(FusedTensor id, cudnnDataType_t type, Residence residence) {
    return tensor(static_cast<int64_t>(id), type, {1, 1, 1, 1}, {1, 1, 1, 1}, residence);
  }
  // [count][heads][row]
  Descriptor rows(FusedTensor id, int64_t heads, int64_t count, int64_t row) {
    return tensor(static_cast<int64_t>(id), CUDNN_DATA_HALF, {1, heads, count, shape_.head_dim},
                  {count * heads * row, row, heads * row, 1}, Residence::kDevice);
  }
  // Between operations: of every score, or of every row of scores.
  Descriptor of_scores(cudnnDataType_t type) {
    const int64_t area = shape_.queries * kMostFusedKeys;
    return tensor(next_id_++, type, {1, shape_.heads, shape_.queries, kMostFusedKeys},
                  {shape_.heads * area, area, kMostFusedKeys, 1}, Residence::kVirtual);
  }
  Descriptor of_rows() {
    return tensor(next_id_++, CUDNN_DATA_FLOAT, {1, shape_.heads, shape_.queries, 1},
                  {shape_.heads * shape_.queries, shape_.queries, 1, 1}, Residence::kVirtual);
  }

  Descriptor queries() {
    return rows(FusedTensor::kQueries, shape_.heads, shape_.queries, shape_.row);
  }
  Descriptor values() {
    return rows(FusedTensor::kValues, shape_.kv_heads, kMostFusedKeys, shape_.row);
  }
  Descriptor keys_transposed() {
    const int64_t stride = static_cast<int64_t>(shape_.kv_heads) * shape_.row;
    return tensor(static_cast<int64_t>(FusedTensor::kKeys), CUDNN_DATA_HALF,
                  {1, shape_.kv_heads, shape_.head_dim, kMostFusedKeys},
                  {kMostFusedKeys * stride, shape_.row, 1, stride}, Residence::kDevice);
  }
  Descriptor output() {
    return rows(FusedTensor::kOutput, shape_.heads, shape_.queries, shape_.head_dim);
  }

  void add(Descriptor operation, std::string_view what) {
    d_.finalize(operation, what);
    operations_.push_back(operation);
  }

  // y = a b, where a has `chunk_` rows; `inner` names the extent that is `tokens_`.
  void product(Descriptor a, Descriptor b, Descriptor y, cudnnBackendAttributeName_t inner,
               std::string_view what) {
    const Descriptor matmul = d_.create(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    d_.set(matmul, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    if (inner == CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC)
      d_.set(matmul, CUDNN_ATTR_MATMUL_PADDING_VALUE, CUDNN_TYPE_DOUBLE, 0.0);
    d_.finalize(matmul, what);
    const Descriptor operation = d_.create(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    d_.link(operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    d_.link(operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    d_.link(operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    d_.link(operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, matmul);
    d_.link(operation, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, chunk_);
    d_.link(operation, inner, tokens_);
    add(operation, what);
  }

  struct Operands {
    Descriptor x = nullptr;
    Descriptor b = nullptr;          // second operand, if there is one
    Descriptor condition = nullptr;  // of a selection: x where it is true, else b
    int64_t axis = -1;               // of an index
  };
  Descriptor pointwise(cudnnPointwiseMode_t mode, cudnnDataType_t precision,
                       const Operands& operands, Descriptor y) {
    const Descriptor function = d_.create(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    d_.set(function, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    d_.set(function, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, precision);
    if (operands.axis >= 0)
      d_.set(function, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, operands.axis);
    const std::string what = fmt::format("pointwise mode {}", static_cast<int>(mode));
    d_.finalize(function, what);
    const Descriptor operation = d_.create(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    d_.link(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
    d_.link(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, operands.x);
    if (operands.b != nullptr) d_.link(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, operands.b);
    if (operands.condition != nullptr)
      d_.link(operation, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, operands.condition);
    d_.link(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add(operation, what);
    return y;
  }
  Descriptor times(Descriptor scores, Descriptor factors) {
    return pointwise(CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, {.x = scores, .b = factors},
                     of_scores(CUDNN_DATA_FLOAT));
  }
  Descriptor index(Descriptor scores, int64_t axis) {
    return pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, {.x = scores, .axis = axis},
                     of_scores(CUDNN_DATA_INT32));
  }
  Descriptor compare(cudnnPointwiseMode_t mode, Descriptor a, Descriptor b) {
    return pointwise(mode, CUDNN_DATA_BOOLEAN, {.x = a, .b = b}, of_scores(CUDNN_DATA_BOOLEAN));
  }
  Descriptor integers(cudnnPointwiseMode_t mode, Descriptor a, Descriptor b) {
    return pointwise(mode, CUDNN_DATA_INT32, {.x = a, .b = b}, of_scores(CUDNN_DATA_INT32));
  }
  Descriptor keep_where(Descriptor condition, Descriptor scores) {
    return pointwise(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT,
                     {.x = scores, .b = masked_, .condition = condition},
                     of_scores(CUDNN_DATA_FLOAT));
  }

  Descriptor scaled_scores() {
    chunk_ = scalar(FusedTensor::kChunk, CUDNN_DATA_INT32, Residence::kDevice);
    tokens_ = scalar(FusedTensor::kTokens, CUDNN_DATA_INT32, Residence::kDevice);
    masked_ = scalar(FusedTensor::kMasked, CUDNN_DATA_FLOAT, Residence::kHost);
    const Descriptor scores = of_scores(CUDNN_DATA_FLOAT);
    product(queries(), keys_transposed(), scores, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
            "queries keys");
    Descriptor scaled =
        times(scores, scalar(FusedTensor::kScale, CUDNN_DATA_FLOAT, Residence::kHost));
    const int64_t heads = shape_.heads;
    if (shape_.query_scales) {
      scaled = times(scaled, tensor(static_cast<int64_t>(FusedTensor::kQueryScales),
                                    CUDNN_DATA_FLOAT, {1, heads, shape_.queries, 1},
                                    {shape_.queries * heads, 1, heads, 1}, Residence::kDevice));
    }
    if (shape_.key_scales) {
      scaled = times(scaled, tensor(static_cast<int64_t>(FusedTensor::kKeyScales), CUDNN_DATA_FLOAT,
                                    {1, heads, 1, kMostFusedKeys},
                                    {kMostFusedKeys * heads, 1, kMostFusedKeys * heads, heads},
                                    Residence::kDevice));
    }
    return scaled;
  }

  Descriptor mask(Descriptor scores) {
    const Descriptor row_is_there =
        compare(CUDNN_POINTWISE_CMP_LT, index(scores, kRowAxis), chunk_);
    const Descriptor column_is_there =
        compare(CUDNN_POINTWISE_CMP_LT, index(scores, kColumnAxis), tokens_);
    const Descriptor padded =
        keep_where(compare(CUDNN_POINTWISE_LOGICAL_AND, row_is_there, column_is_there), scores);
    const Descriptor row = index(padded, kRowAxis);
    const Descriptor column = index(padded, kColumnAxis);
    const Descriptor position =
        integers(CUDNN_POINTWISE_SUB, integers(CUDNN_POINTWISE_ADD, row, tokens_), chunk_);
    return keep_where(compare(CUDNN_POINTWISE_CMP_GE, position, column), padded);
  }

  Descriptor softmax(Descriptor scores) {
    const auto reduce = [&](cudnnReduceTensorOp_t mode, Descriptor x) {
      const Descriptor y = of_rows();
      const Descriptor function = d_.create(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
      d_.set(function, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, mode);
      d_.set(function, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
      d_.finalize(function, "reduction");
      const Descriptor operation = d_.create(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
      d_.link(operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
      d_.link(operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
      d_.link(operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, function);
      add(operation, "reduction");
      return y;
    };
    const Descriptor top = reduce(CUDNN_REDUCE_TENSOR_MAX, scores);
    const Descriptor shifted = pointwise(CUDNN_POINTWISE_SUB, CUDNN_DATA_FLOAT,
                                         {.x = scores, .b = top}, of_scores(CUDNN_DATA_FLOAT));
    const Descriptor powers = pointwise(CUDNN_POINTWISE_EXP, CUDNN_DATA_FLOAT, {.x = shifted},
                                        of_scores(CUDNN_DATA_FLOAT));
    const Descriptor sum = reduce(CUDNN_REDUCE_TENSOR_ADD, powers);
    // Nobody reads top + log(sum), but without it the kernels write it through a pointer that
    // nobody has set.
    const Descriptor log_sum =
        pointwise(CUDNN_POINTWISE_LOG, CUDNN_DATA_FLOAT, {.x = sum}, of_rows());
    pointwise(CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, {.x = top, .b = log_sum}, of_rows());
    return pointwise(CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT, {.x = powers, .b = sum},
                     of_scores(CUDNN_DATA_HALF));
  }

  const FusedAttentionShape& shape_;
  CudnnDescriptors& d_;
  std::vector<Descriptor> operations_;
  Descriptor chunk_ = nullptr;
  Descriptor tokens_ = nullptr;
  Descriptor masked_ = nullptr;
  int64_t next_id_ = 100;  // of tensors between operations
};

}  // namespace

cudnnBackendDescriptor_t make_attention_graph(const FusedAttentionShape& shape,
                                              cudnnHandle_t handle, CudnnDescriptors& descriptors) {
  return GraphWriter(shape, descriptors).write(handle);
}

}  // namespace abq::runtime::cuda
