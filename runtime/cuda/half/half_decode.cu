// The half kernel for few tokens: up to 4, 8 or 32 of them in a block, whose warps multiply rows of
// weight tiles by slices of the inputs (half_decode_shape.h). Slices add up in their order, through
// the shared memory of the cluster.
#include "runtime/cuda/half/half_decode.cuh"

namespace abq::runtime::cuda {
namespace {

template <class Codes, int kColumns, bool kGrouped>
__global__ void __launch_bounds__(kLanes* most_decode_warps(kColumns), 1)
    half_decode(const DecodeArguments a) {
  constexpr int kStages = decode_stages(Codes::kLoads);
  extern __shared__ uint4 shared[];  // activations, then groups; sums at the end
  const WeightTiles& weights = a.half.weights;
  const DecodePlace place = decode_place<Codes>(a);
  const int lane = place.lane;
  const int g = lane / 4;
  const int first_token = static_cast<int>(blockIdx.y) * kColumns * kHalfColumnTokens;
  const int existing = min(2 * (a.half.tokens.m - first_token), 8 * kColumns);
  const int k_tiles = tiles_of(weights.k, kTileDepth);
  const int n_tile = place.exists ? place.n_tile : 0;

  uint32_t words[kStages][Codes::kLoads][4];
#pragma unroll
  for (int i = 0; i < kStages; ++i) {
    const int unit = place.first_unit + i;
    load_unit<Codes>(weights, n_tile, unit, unit < place.last_unit, lane, words[i]);
  }
  release_next();
  const int64_t row_entry = static_cast<int64_t>(n_tile) * weights.groups * kTileRows;
  const int shift = 3 - group_shift(weights);  // log2 of a tile's groups
  const GroupRing ring = {weights.scales + row_entry, weights.zeros + row_entry,
                          shared + existing * column_words(place.tiles) +
                              place.warp * kGroupStages * group_words(1 << shift),
                          weights.groups, shift};
  const ZeroPair row_zeros = zero_pair(ring.zeros, g);
  const float row_scales[2] = {__ldg(ring.scales + g), __ldg(ring.scales + g + 8)};
  const int first_tile = place.first_unit * Codes::kUnitTiles;
  if (kGrouped) {
    for (int i = 0; i < kGroupStages - 1; ++i)
      ring.copy(first_tile + i, lane);
  }
  wait_for_previous();

  copy_activations(a.half.tokens, place, a.column_bits, 2 * first_token, existing, shared);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const bool many = existing > 32;
  // Columns that do not exist may have any values: the last one's.
  int columns[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    columns[c] = min(g + 8 * c, existing - 1) * column_words(place.tiles) + lane % 4 +
                 (first_tile - place.first_tile) * (kTileDepth / 8);
  }
  float totals[kColumns][4] = {};
  for (int first = place.first_unit; first < place.last_unit; first += kStages) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      const int unit = first + i;
      if (unit >= place.last_unit) break;
      const int tiles = Codes::tiles(k_tiles, unit);
      typename Codes::State state;
      Codes::gather(tiles, words[i], state);
      const int later = unit + kStages;
      load_unit<Codes>(weights, n_tile, later, later < place.last_unit, lane, words[i]);
#pragma unroll
      for (int tile = 0; tile < Codes::kUnitTiles; ++tile) {
        if (tile >= tiles) break;
        const int k_tile = unit * Codes::kUnitTiles + tile;
        if (kGrouped) {
          __syncwarp();  // the slot of the tile before is free
          ring.copy(k_tile + kGroupStages - 1, lane);
          commit_copies();
          wait_copies<kGroupStages - 1>();
          __syncwarp();
        }
        multiply_tile<Codes, kColumns, kGrouped>(state, tile, shared, columns, ring.slot(k_tile),
                                                 shift, g, row_zeros, many, totals);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          columns[c] += kTileDepth / 8;
      }
    }
  }
  wait_copies<0>();
  if (!kGrouped) {
#pragma unroll
    for (int i = 0; i < kColumns * 4; ++i)
      totals[i / 4][i % 4] *= row_scales[i % 4 / 2];
  }
  reduce_and_store<kColumns>(a, place, first_token, totals, reinterpret_cast<float*>(shared));
}

constexpr int log2_up(int value) {
  int bits = 0;
  while (1 << bits < value)
    ++bits;
  return bits;
}

cudaError_t device_limits(HalfDecodeLimits* limits) {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&limits->processors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  limits->cluster = launches_overlap() ? 8 : 1;
  return cudaDeviceGetAttribute(&limits->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                device);
}

template <class Codes, int kColumns, bool kGrouped>
cudaError_t launch_kernel(const HalfArguments& arguments, cudaStream_t stream) {
  const WeightTiles& weights = arguments.weights;
  HalfDecodeWork work;
  work.n_tiles = tiles_of(weights.n, kTileRows);
  work.k_tiles = tiles_of(weights.k, kTileDepth);
  work.units = Codes::units(work.k_tiles);
  work.unit_tiles = Codes::kUnitTiles;
  work.tile_words = kLanes * Codes::loads(weights.planes, Codes::kUnitTiles) / Codes::kUnitTiles;
  work.tile_groups = kGrouped ? kTileDepth / weights.group_size : 0;
  work.column_blocks = kColumns;
  const int tokens = kColumns * kHalfColumnTokens;
  work.columns = 2 * (arguments.tokens.m < tokens ? arguments.tokens.m : tokens);
  work.token_blocks = tiles_of(arguments.tokens.m, tokens);
  HalfDecodeLimits limits;
  cudaError_t error = device_limits(&limits);
  if (error != cudaSuccess) return error;
  const HalfDecodeShape shape = choose_decode_shape(work, limits);
  if (shape.row_warps == 0) {
    if (kColumns > 2) return launch_kernel<Codes, 2, kGrouped>(arguments, stream);
    return launch_half_prefill(arguments, stream);
  }
  const auto kernel = half_decode<Codes, kColumns, kGrouped>;
  error = allow_shared(kernel, static_cast<unsigned>(shape.shared_bytes));
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(tiles_of(work.n_tiles, shape.row_warps)) *
                            static_cast<unsigned>(shape.cluster),
                        static_cast<unsigned>(work.token_blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.row_warps * shape.k_warps * kLanes));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(shape.cluster);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  config.attrs = attributes;
  config.numAttrs = !launches_overlap() ? 0 : shape.cluster > 1 ? 2 : 1;
  const int slices = shape.cluster * shape.k_warps;
  return cudaLaunchKernelEx(
      &config, kernel,
      DecodeArguments{arguments, shape.row_warps, (1 << 16) / shape.row_warps + 1, shape.k_warps,
                      log2_up(shape.cluster), work.units / slices, work.units % slices,
                      log2_up(work.columns)});
}

template <class Codes>
cudaError_t launch_codes(const HalfArguments& arguments, cudaStream_t stream) {
  const int m = arguments.tokens.m;
  const bool grouped = arguments.weights.group_size != 0;
  if (m <= 4) {
    return grouped ? launch_kernel<Codes, 1, true>(arguments, stream)
                   : launch_kernel<Codes, 1, false>(arguments, stream);
  }
  if (m <= 8) {
    return grouped ? launch_kernel<Codes, 2, true>(arguments, stream)
                   : launch_kernel<Codes, 2, false>(arguments, stream);
  }
  return grouped ? launch_kernel<Codes, 8, true>(arguments, stream)
                 : launch_kernel<Codes, 8, false>(arguments, stream);
}

}  // namespace

cudaError_t launch_half_decode(const HalfArguments& arguments, cudaStream_t stream) {
  if (arguments.weights.encoding == TileEncoding::kBase5)
    return launch_codes<Base5HalfCodes>(arguments, stream);
  const int planes = arguments.weights.planes;
  if (planes == 1) return launch_codes<PlaneCodes<1>>(arguments, stream);
  if (planes == 2) return launch_codes<PlaneCodes<2>>(arguments, stream);
  if (planes <= 4) return launch_codes<PlaneCodes<4>>(arguments, stream);
  return launch_codes<PlaneCodes<8>>(arguments, stream);
}

}  // namespace abq::runtime::cuda
