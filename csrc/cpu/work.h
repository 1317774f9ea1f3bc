#pragma once

// What the kernels are told: plain structs, and the work items they speak of.

#include <algorithm>
#include <cstdint>

#include "params.h"

namespace gridsample_ext {

/// Whether vector gathers beat loads one by one on this CPU: on Intel's with AVX-512 they do,
/// if the operating system reports that microcode does not slow them down against Downfall; AMD's
/// are loads one by one, and more. GRIDSAMPLE_EXT_GATHERS=0 or 1 overrides it. Results are the
/// same bits either way.
extern const bool fast_gathers;

/// Offsets within a plane, in elements. Planes that need more bits are left to plain kernels.
using offset_t = int32_t;

/// Samples are worked on in tiles that start at multiples of this, whatever the number of threads,
/// so that a sample is always computed by the same instructions. See taps/tap_tile.h. Not so where
/// the taps of the forward pass stay in registers: there a sample has the same bits whichever
/// samples are beside it.
constexpr int kTileSize = 256;

/// spline_filter works on as many lines along an axis as have so many bytes beside each other.
constexpr int kLineBytes = 256;

/// Where lanes go over samples, a tile is worked on in strips of this many: their taps leave most
/// of the first-level cache to the pixels.
constexpr int kStripSize = 64;

/// Tiles that nearest takes together where channels are planes: so little is done for a sample that
/// it pays to stay in one plane for longer.
constexpr int kNearestRun = 16;

/// Kernels that keep the taps of a few samples in registers are for images with so many channels at
/// most, which have little use for the taps of a tile in memory, and so many taps on an axis.
constexpr int64_t kMostRegisterChannels = 4;
constexpr int kMostRegisterTaps = 2;

/// Work item = (batch, run of tiles, channel block), the last fastest; of forward_packed (batch,
/// block of packed_channels); of forward_in_registers a run of tiles, which are numbered over the
/// whole batch.
struct ForwardParams {
  Geometry geometry;
  View input;
  GridView grid;
  View output;
  int64_t channel_blocks;
  int64_t run_tiles;  // of nearest from planes at most kNearestRun
  int64_t packed_channels;
  void* scratch;  // packed_elements of the compute type for each worker
};

/// Values of a block of `width` channels of one image.
inline int64_t packed_elements(const Geometry& geometry, int64_t width) {
  int64_t pixels = 1;
  for (int a = 0; a < geometry.dims; ++a) pixels *= geometry.input_size[a];
  return pixels * width;
}

/// The first and the last position or offset of a tile's taps on an axis; none if first > last.
struct TapRange {
  int64_t first;
  int64_t last;
};

/// Work item = (input batch, channel block, slab), the last fastest. A slab is a range of positions
/// on slab_axis: the item goes over all samples and writes only what falls into its slab, so each
/// pixel of grad_input has one owner and receives its contributions in a fixed order.
struct GradInputParams {
  Geometry geometry;
  View grad_output;
  GridView grid;
  View grad_input;  // in the compute type; each item zeros what it owns
  int64_t input_batch;
  int64_t channel_blocks;
  int64_t slabs;
  int slab_axis;
  // Where there are several slabs, the positions between which the taps of every (batch, tile) lie
  // on slab_axis. Tiles that do not reach a slab are passed over.
  const TapRange* ranges = nullptr;
  // Samples that follow each other lie far apart in the image. They are added in their order.
  bool scattered = false;
};

/// Whether an item picks the samples that reach into its slab before it plans them.
inline bool picks_samples(const GradInputParams& params) {
  return params.scattered && params.slabs > 1;
}

/// grad_grid is summed over pieces of the channels of one image, then over the pieces in order. How
/// many channels a piece has, the shapes alone decide, so the sum does not depend on whether one
/// thread or several took the pieces.
constexpr int64_t kMostPieceChannels = 64;

/// Where lanes go over samples, or no block is packed, runs of pieces make at most kMostChunks
/// chunks; a chunk is summed in order, then the chunks in order. Else a chunk is a piece.
constexpr int64_t kMostChunks = 64;

/// Work item = (grid batch, tile, chunk group), the last fastest. With one group the item sums all
/// chunks and writes grad_grid. With as many groups as chunks the item writes its sums to
/// `partial`, [chunk][grid batch][tile][axis][kTileSize] of the compute type. finish_grad_grid with
/// items (grid batch, tile) adds up `partial_sums` of them, to what stands in grad_grid already if
/// has_first_sums.
struct GradGridParams {
  Geometry geometry;
  View grad_output;
  View input;
  GridView grid;
  GradGridView grad_grid;
  int64_t grid_batch;
  int64_t piece_channels;
  int64_t chunk_groups;
  void* partial;
  int64_t partial_sums;
  bool has_first_sums;
  bool scattered;  // as in GradInputParams
};

/// One block of channels of one image, packed into rows for all workers to share. Work item of pack
/// = part of the image's pixels; of grad_grid_packed = tile.
struct PackedBlockParams {
  Geometry geometry;
  View grad_output;
  View input;
  GridView grid;
  GradGridView grad_grid;  // in the compute type; holds the running sum over pieces
  int64_t batch;
  int64_t channel;
  int64_t channels;
  int64_t piece_channels;
  int64_t parts;
  void* packed;
  bool first;  // of the blocks that are summed
};

/// Both gradients at once, where channels are innermost in memory or blocks of them are packed.
/// Work item = (input batch, group of channels), the last fastest.
struct BackwardParams {
  Geometry geometry;
  View grad_output;
  View input;
  GridView grid;
  View grad_input;         // in the compute type; no data: not wanted
  GradGridView grad_grid;  // in the compute type
  int64_t input_batch;
  int64_t groups;
  int64_t group_channels;
  int64_t packed_channels;  // 0: channels are innermost in input and grad_input
  int64_t piece_channels;
  void* scratch;  // packed_elements for each worker
  // As in GradGridParams, of the pieces of all groups but the first, whose sum stands in grad_grid.
  void* partial;
};

/// Both gradients at once, divided as grad_input is. Work item = (input batch, slab). A tile's
/// grad_grid is computed by the slab that its taps lie in; if they lie in several or none, the
/// tiles are dealt out to the slabs in turn.
struct BackwardSlabParams {
  GradInputParams grad_input;  // one channel block
  GradGridParams grad_grid;    // lanes over samples; one chunk group
  BackwardParams rows;         // lanes over channels; one group, not packed
};

/// In the second-order ops lanes go over channels where a row has this many, else over samples.
constexpr int64_t kLeastRowChannels = 4;
inline bool has_channel_lanes(const Geometry& geometry) {
  return geometry.channels >= kLeastRowChannels;
}

/// Images as rows: of the compute type, channels innermost, pixel after pixel. grad_input is
/// divided as GradInputParams says; work item of jvp = (batch, strip); of
/// double_backward_grid (grid batch, strip).
struct SecondOrderParams {
  Geometry geometry;
  GridView grid;
  View tangent_grid;   // no data: does not move
  View input;          // rows
  View tangent_input;  // rows; no data: does not change
  View grad_output;
  View output;  // of jvp
  View grad_grid;
  int64_t grid_batch;
  GradInputParams to_input;  // grad_input as rows
};

/// An image between its own layout and type and rows. Work item = (batch, part of the pixels).
struct RowsParams {
  Geometry geometry;
  View image;
  View rows;
  int64_t parts;
};

/// A tap of a sample: what it adds to grad_input is weight * grad_output at `source`, at `pixel`;
/// both are offsets in the first channel. A tap that adds nothing has a negative pixel.
struct PlainTap {
  int64_t pixel;
  int64_t source;
  int64_t number;  // by batch, sample and the taps' order
  double weight;
};

/// Images of any type and layout. Work item of output and list_taps = (batch, sample); of grad_grid
/// (grid batch, sample); of add_taps = a tap. Those of a pixel follow each other then, in the order
/// of their numbers, and the item of the first adds them all. Of scatter (input batch, slab), a
/// range of positions on the outermost axis: the item adds what falls into it, from all samples.
///
/// finishes: output and grad_grid are for the samples alone that read values of their own outside
/// the image, for which other kernels have read 0. Work item then = (batch or grid batch, tile).
struct PlainParams {
  Geometry geometry;
  bool finishes = false;
  // The geometry's values outside, of the output of nearest.
  Element fill_value;
  Element outside_value;
  GridView grid;
  View tangent_grid;   // no data: a first-order op
  View input;          // of list_taps, add_taps and scatter: grad_input, zeroed
  View tangent_input;  // no data: does not change
  View grad_output;
  View output;
  View grad_grid;
  int64_t grid_batch;
  PlainTap* taps;  // taps_per_sample for each sample of each batch
  int64_t tap_count;
  int64_t input_batch;
  int64_t slabs;
};

/// Of sample_labels. Work item = (batch, sample).
struct LabelParams {
  Geometry geometry;
  GridView grid;
  View labels;
  View output;
  LabelType type;
  int64_t fill_value;  // in order, as labels are loaded
  int64_t outside_value;
};

/// Whether lanes can go over channels: they are innermost in memory, and there are several.
inline bool has_rows(const Geometry& geometry, const View& image) {
  return image.channel_stride == 1 && geometry.channels > 1;
}
inline bool reads_rows(const ForwardParams& params) {
  return has_rows(params.geometry, params.input) && has_rows(params.geometry, params.output);
}

struct Range {
  int64_t begin;
  int64_t end;
};

/// The images of the batch that read image `input_batch` of the input, or add to its gradient: all
/// of them, if the input is broadcast.
inline Range batches_of(const Geometry& geometry, int64_t input_batches, int64_t input_batch) {
  if (input_batches == 1) return {0, geometry.batch};
  return {input_batch, input_batch + 1};
}

/// Part `index` of `parts` nearly equal parts of [0, size).
inline Range block_range(int64_t size, int64_t parts, int64_t index) {
  return {size * index / parts, size * (index + 1) / parts};
}

inline int64_t tile_count(const Geometry& geometry) {
  return ceil_div(geometry.samples, kTileSize);
}
inline int64_t strip_count(const Geometry& geometry) {
  return ceil_div(geometry.samples, kStripSize);
}
/// Tiles that nearest takes together.
inline int64_t nearest_run(const Geometry& geometry) {
  return geometry.channels < 8 ? 4 : kNearestRun;
}
/// `images` of the batch taken together, in all that follow each other.
inline Geometry group_images(const Geometry& geometry, int64_t images) {
  Geometry grouped = geometry;
  grouped.batch = ceil_div(geometry.batch, images);
  grouped.samples = geometry.samples * images;
  grouped.images_per_group = images;
  grouped.missing_samples = geometry.samples * (grouped.batch * images - geometry.batch);
  return grouped;
}
inline View group_images(const View& view, const Geometry& grouped) {
  View result = view;
  result.stride[grouped.dims] = view.batch_stride;
  result.batch_stride = view.batch_stride * grouped.images_per_group;
  return result;
}

inline GridView group_images(const GridView& grid, const Geometry& grouped) {
  GridView result = grid;
  static_cast<View&>(result) = group_images(static_cast<const View&>(grid), grouped);
  return result;
}

/// Samples of an image of the batch, or of a group of them.
inline int64_t samples_of(const Geometry& geometry, int64_t batch) {
  return geometry.samples - (batch + 1 == geometry.batch ? geometry.missing_samples : 0);
}
/// Images of a group, or one.
inline int64_t images_of(const Geometry& geometry, int64_t batch) {
  if (geometry.images_per_group == 1) return 1;
  return samples_of(geometry, batch) * geometry.images_per_group / geometry.samples;
}
/// Samples of its tile that starts at `first`.
inline int tile_samples(const Geometry& geometry, int64_t batch, int64_t first) {
  return static_cast<int>(std::min<int64_t>(kTileSize, samples_of(geometry, batch) - first));
}

/// Channels of a piece, for images packed in blocks of `packed` channels, or not at all (0). Small
/// pieces are more to share among threads, large ones less to add up. A block is made of whole
/// pieces, but for the last.
inline int64_t piece_channels(const Geometry& geometry, int64_t packed) {
  int64_t piece = geometry.channels >= 128 ? 64 : geometry.channels >= 64 ? 32 : 16;
  if (packed == 0 || packed == geometry.channels) return piece;
  while (packed % piece != 0) piece /= 2;
  return piece;
}

/// What grad_grid sums over: the channels, and for a broadcast grid the images.
inline int64_t pieces_per_image(const GradGridParams& params) {
  return ceil_div(params.geometry.channels, params.piece_channels);
}
inline int64_t grad_grid_pieces(const GradGridParams& params) {
  return pieces_per_image(params) * (params.grid_batch == 1 ? params.geometry.batch : 1);
}
inline int64_t grad_grid_chunks(const GradGridParams& params) {
  return std::min(grad_grid_pieces(params), kMostChunks);
}
/// Channels of one piece.
inline Range channels_of_piece(const GradGridParams& params, int64_t piece) {
  const int64_t first = piece % pieces_per_image(params) * params.piece_channels;
  return {first, std::min(params.geometry.channels, first + params.piece_channels)};
}

}  // namespace gridsample_ext
