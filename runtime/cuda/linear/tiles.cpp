// Weight tiles on the device, chunk by chunk: rows of the artifact -> codes -> tiles and sums.
#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "quant/gemm_variants.h"
#include "runtime/cuda/device_array.h"
#include "runtime/cuda/linear/base5_tiles.h"
#include "runtime/cuda/linear/tile_kernels.h"
#include "runtime/cuda/linear_kernels.h"

namespace abq::runtime::cuda {
namespace {

using Parts = std::span<const StoredWeights* const>;

constexpr int64_t kAlignment = 256;
constexpr int64_t kChunkCodes = int64_t{64} << 20;  // bytes of codes worked on at a time

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t row_params(const WeightTiles& shape) {
  return static_cast<int64_t>(tiles_of(shape.n, kTileRows)) * kTileRows * shape.groups;
}

// 32-bit words of one row of tiles.
int64_t tile_row_words(const WeightTiles& shape) {
  const int k_tiles = tiles_of(shape.k, kTileDepth);
  const int64_t loads = shape.encoding == TileEncoding::kBase5
                            ? base5_row_loads(k_tiles)
                            : static_cast<int64_t>(k_tiles) * shape.planes;
  return loads * kLanes * 4;
}

Status check_part(const StoredWeights& part, const StoredWeights& first) {
  const quant::PackedLayout& layout = part.layout;
  if (!(part.spec == first.spec) || layout.k != first.layout.k)
    return invalid_argument("weights of different kinds cannot share tiles: {} and {}",
                            layout.to_string(), first.layout.to_string());
  if (!(layout == quant::PackedLayout::for_weights(part.spec, layout.n, layout.k)))
    return invalid_argument("layout {} is not the one of its weights", layout.to_string());
  const int64_t params = layout.n * part.spec.groups(layout.k);
  if (part.packed.empty()) return {};
  if (static_cast<int64_t>(part.packed.size()) != layout.total_bytes())
    return corrupt("{} bytes of packed weights, expected {} for {}", part.packed.size(),
                   layout.total_bytes(), layout.to_string());
  if (static_cast<int64_t>(part.scales.size()) != params ||
      static_cast<int64_t>(part.zeros.size()) != params)
    return corrupt("{} scales and {} zero points, expected {} for {}", part.scales.size(),
                   part.zeros.size(), params, layout.to_string());
  return {};
}

// Makes the tiles of one plan; owns what it works in.
class TileFiller {
 public:
  TileFiller(const WeightTiles& to, Parts parts, cudaStream_t stream)
      : to_(to), parts_(parts), stream_(stream) {}

  Status fill() {
    ABQ_RETURN_IF_ERROR(allocate());
    // Rows beyond n keep scale 0.
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(scales(0), 0, static_cast<size_t>(row_params(to_)) * sizeof(float),
                        stream_),
        "scales of tiles");
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(zeros(0), 0, static_cast<size_t>(row_params(to_)) * sizeof(int32_t),
                        stream_),
        "zero points of tiles");
    const int64_t n_tiles = tiles_of(to_.n, kTileRows);
    for (int64_t first = 0; first < n_tiles; first += chunk_tiles_) {
      const int64_t count = std::min(chunk_tiles_, n_tiles - first);
      ABQ_RETURN_IF_ERROR(
          fill_chunk(first, count)
              .with_context(fmt::format("tiles {}..{} of {}", first, first + count - 1, n_tiles)));
    }
    return check_faults();
  }

 private:
  Status allocate() {
    const int k_tiles = tiles_of(to_.k, kTileDepth);
    const int64_t tile_codes = static_cast<int64_t>(kTileRows) * kTileDepth * k_tiles;
    chunk_tiles_ = std::clamp<int64_t>(kChunkCodes / tile_codes, 1, tiles_of(to_.n, kTileRows));
    const int64_t rows = chunk_tiles_ * kTileRows;
    ABQ_ASSIGN_OR_RETURN(codes_, DeviceArray<uint8_t>::create(chunk_tiles_ * tile_codes));
    ABQ_ASSIGN_OR_RETURN(
        faults_, DeviceArray<FirstRow>::create(static_cast<int64_t>(parts_.size()) * kFaultKinds));
    ABQ_RETURN_IF_ERROR(
        faults_.upload(std::vector<FirstRow>(static_cast<size_t>(faults_.size()), kNoFault)));
    const bool stored = std::any_of(parts_.begin(), parts_.end(), [](const StoredWeights* part) {
      return !part->packed.empty();
    });
    if (!stored) return {};
    const int64_t row_bytes = parts_[0]->layout.row_bytes();
    ABQ_ASSIGN_OR_RETURN(packed_, DeviceArray<uint8_t>::create(rows * row_bytes));
    ABQ_ASSIGN_OR_RETURN(scales_, DeviceArray<float>::create(rows * to_.groups));
    ABQ_ASSIGN_OR_RETURN(zeros_, DeviceArray<uint8_t>::create(rows * to_.groups));
    return {};
  }

  Status fill_chunk(int64_t first_tile, int64_t tiles) {
    const int64_t first_row = first_tile * kTileRows;
    const int64_t rows = tiles * kTileRows;
    const CodeRows codes{codes_.data(), rows, to_.k, tiles_of(to_.k, kTileDepth)};
    ABQ_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(codes_.data(), 0, static_cast<size_t>(rows * kTileDepth * codes.k_tiles),
                        stream_),
        "codes of {} rows", rows);
    int64_t before = 0;  // rows of the parts before
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int64_t n = parts_[i]->layout.n;
      RowMap map{to_.gated, static_cast<int>(i), 0, 0, 0};
      int64_t end = 0;
      if (to_.gated) {
        map.part_row = first_row / 2;
        end = std::min(n, map.part_row + rows / 2);
      } else {
        map.part_row = std::max<int64_t>(first_row - before, 0);
        end = std::min(n, first_row + rows - before);
        map.first = before + map.part_row - first_row;
      }
      map.rows = end - map.part_row;
      before += n;
      if (map.rows > 0) ABQ_RETURN_IF_ERROR(read_rows(i, map, codes, first_tile));
    }
    ABQ_RETURN_IF_CUDA_ERROR(sum_codes(codes, to_.groups, sums(first_tile), stream_),
                             "sums of codes");
    uint32_t* const tiles_at = const_cast<uint32_t*>(to_.tiles) + first_tile * tile_row_words(to_);
    ABQ_RETURN_IF_CUDA_ERROR(to_.encoding == TileEncoding::kBase5
                                 ? pack_base5_tiles(codes, tiles_at, stream_)
                                 : pack_plane_tiles(codes, to_.planes, tiles_at, stream_),
                             "packing of tiles");
    // The chunk's buffers are used again.
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "making of tiles");
    return {};
  }

  // Rows of one part into the chunk: codes, scales, zero points.
  Status read_rows(size_t index, const RowMap& map, const CodeRows& codes, int64_t first_tile) {
    const StoredWeights& part = *parts_[index];
    const int levels = part.spec.levels();
    float* const tile_scales = scales(first_tile);
    int32_t* const tile_zeros = zeros(first_tile);
    if (part.packed.empty()) {
      const uint64_t seed = 0x51a7u + 0x9e37u * index;
      ABQ_RETURN_IF_CUDA_ERROR(random_codes(levels, seed, map, codes, stream_), "random codes");
      ABQ_RETURN_IF_CUDA_ERROR(random_params(to_.groups, to_.denominator, levels, to_.k, map,
                                             tile_scales, tile_zeros, stream_),
                               "random scales");
      return {};
    }
    FirstRow* const faults = faults_.data() + index * kFaultKinds;
    const quant::PackedLayout& layout = part.layout;
    const int64_t row_bytes = layout.row_bytes();
    ABQ_RETURN_IF_CUDA_ERROR(
        copy(packed_.data(), part.packed.data() + map.part_row * row_bytes, map.rows * row_bytes),
        "upload of {} rows of {}", map.rows, layout.to_string());
    const int64_t first_param = map.part_row * to_.groups;
    const int64_t params = map.rows * to_.groups;
    ABQ_RETURN_IF_CUDA_ERROR(copy(scales_.data(), part.scales.data() + first_param,
                                  params * static_cast<int64_t>(sizeof(float))),
                             "upload of {} scales", params);
    ABQ_RETURN_IF_CUDA_ERROR(copy(zeros_.data(), part.zeros.data() + first_param, params),
                             "upload of {} zero points", params);
    ABQ_RETURN_IF_CUDA_ERROR(
        layout.encoding == quant::Encoding::kPlanes
            ? unpack_planes(packed_.data(), layout.code_bits, layout.plane_bytes(), map, codes,
                            faults, stream_)
            : unpack_dense(packed_.data(), layout.encoding == quant::Encoding::kBase5 ? 5 : 3,
                           row_bytes, map, codes, faults, stream_),
        "unpacking of {} rows of {}", map.rows, layout.to_string());
    ABQ_RETURN_IF_CUDA_ERROR(
        place_params(scales_.data(), zeros_.data(), to_.groups, to_.denominator, levels, map,
                     tile_scales, tile_zeros, faults, stream_),
        "scales of {} rows", map.rows);
    // The next part uses the same buffers.
    ABQ_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "unpacking of rows");
    return {};
  }

  cudaError_t copy(void* to, const void* from, int64_t bytes) {
    return cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_);
  }

  Status check_faults() const {
    ABQ_ASSIGN_OR_RETURN(const std::vector<FirstRow> rows, faults_.download());
    constexpr std::array<std::string_view, kFaultKinds> kWords = {
        "a word stands for no codes", "padding is not zero",
        "a scale is not a positive finite number", "a zero point is out of range"};
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] == kNoFault) continue;
      const std::string_view words = kWords[i % kFaultKinds];
      if (parts_.size() == 1) return corrupt("row {}: {}", rows[i], words);
      return corrupt("part {}: row {}: {}", i / kFaultKinds, rows[i], words);
    }
    return {};
  }

  float* scales(int64_t tile) const {
    return const_cast<float*>(to_.scales) + tile * to_.groups * kTileRows;
  }
  int32_t* zeros(int64_t tile) const {
    return const_cast<int32_t*>(to_.zeros) + tile * to_.groups * kTileRows;
  }
  int32_t* sums(int64_t tile) const {
    return const_cast<int32_t*>(to_.sums) + tile * to_.groups * kTileRows;
  }

  const WeightTiles& to_;
  Parts parts_;
  cudaStream_t stream_;
  int64_t chunk_tiles_ = 1;
  DeviceArray<uint8_t> codes_;
  DeviceArray<uint8_t> packed_;
  DeviceArray<float> scales_;
  DeviceArray<uint8_t> zeros_;
  DeviceArray<FirstRow> faults_;
};

}  // namespace

Result<TilesPlan> plan_tiles(std::span<const StoredWeights* const> parts, bool gated) {
  if (parts.empty()) return invalid_argument("tiles of no weights");
  const StoredWeights& first = *parts[0];
  const int64_t k = first.layout.k;
  if (!first.spec.quantized())
    return invalid_argument("tiles are for quantized weights, not for {} bits", first.spec.bits);
  if (k < 1 || k > quant::kMaxGemmDepth)
    return unsupported("K={}: kernels take 1 to {}", k, quant::kMaxGemmDepth);
  ABQ_RETURN_IF_ERROR(quant::check_weight_spec(first.spec, k));
  int64_t n = 0;
  for (const StoredWeights* const part : parts) {
    ABQ_RETURN_IF_ERROR(check_part(*part, first));
    n += part->layout.n;
  }
  if (gated && (parts.size() != 2 || parts[0]->layout.n != parts[1]->layout.n))
    return invalid_argument("gated tiles are made of two matrices with as many rows");
  if (n < 1 || n > std::numeric_limits<int32_t>::max() - kTileRows)
    return unsupported("N={}: kernels take 1 to 2^31 - 17", n);

  TilesPlan plan;
  WeightTiles& shape = plan.shape;
  shape.encoding = first.layout.encoding == quant::Encoding::kBase5 ? TileEncoding::kBase5
                                                                    : TileEncoding::kPlanes;
  shape.n = static_cast<int>(n);
  shape.k = static_cast<int>(k);
  shape.planes = first.spec.code_bits();
  shape.group_size = first.spec.group_size;
  shape.groups = static_cast<int>(first.spec.groups(k));
  shape.gated = gated;
  shape.denominator = first.spec.zero_denominator();
  shape.tile_bytes = tiles_of(n, kTileRows) * tile_row_words(shape) * 4;
  plan.bytes = aligned(shape.tile_bytes) + 3 * aligned(row_params(shape) * 4);
  return plan;
}

Result<WeightTiles> fill_tiles(const TilesPlan& plan, std::span<const StoredWeights* const> parts,
                               void* memory, cudaStream_t stream) {
  WeightTiles tiles = plan.shape;
  auto* const bytes = static_cast<std::byte*>(memory);
  const int64_t params = aligned(row_params(tiles) * 4);
  const int64_t codes = aligned(tiles.tile_bytes);
  tiles.tiles = reinterpret_cast<const uint32_t*>(bytes);
  tiles.scales = reinterpret_cast<const float*>(bytes + codes);
  tiles.zeros = reinterpret_cast<const int32_t*>(bytes + codes + params);
  tiles.sums = reinterpret_cast<const int32_t*>(bytes + codes + 2 * params);
  ABQ_RETURN_IF_ERROR(TileFiller(tiles, parts, stream).fill());
  return tiles;
}

}  // namespace abq::runtime::cuda
