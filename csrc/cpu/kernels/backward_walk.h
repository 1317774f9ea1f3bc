#pragma once

#include "cpu/kernels/grad_grid.h"
#include "cpu/pixels/nearest_rows.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Both gradients for channels [channel, channel + channels) of one tile: `image` and `grad_image`
/// are rows of the input and of grad_input, addressed by `view`, from `channel` on.
template <bool kInput, bool kGrid, typename Tile, typename DerivativesOrNone>
void backward_tile(const BackwardParams& params, const View& view, const Tile& tile,
                   const DerivativesOrNone& derivatives, const compute_t* image,
                   compute_t* grad_image, int64_t channel, int64_t channels, int64_t batch,
                   int64_t t) {
  const Geometry& geometry = params.geometry;
  const View& source = params.grad_output;
  const RowPrefetch prefetch(geometry, std::min(channels, params.piece_channels), sizeof(compute_t),
                             Pass::kBackward);
  const bool in_place = source.channel_stride == 1 && source.dtype == kDTypeOf<compute_t>;
  const int64_t first = t * kTileSize;
  TileOffsets located;
  locate_samples(geometry, source, first, tile.count, located);
  const TapList<Tile> taps(tile);
  ActiveSamples active;
  if constexpr (!kGrid) list_active<1>(tile, active);
  alignas(64) AxisSums<Tile> sums;
  alignas(64) compute_t staged[kTileSize * kMostPieceChannels];
  for (int64_t c = 0; c < channels; c += params.piece_channels) {
    const int count = static_cast<int>(std::min(params.piece_channels, channels - c));
    PieceRows rows{kGrid ? image + c : nullptr,
                   kInput ? grad_image + c : nullptr,
                   staged,
                   count,
                   count,
                   geometry.input_size[0],
                   view.stride[0]};
    if (in_place && located.even) {
      rows.grad_output = static_cast<const compute_t*>(source.data) + batch * source.batch_stride +
                         located.first + channel + c;
      rows.grad_stride = located.step;
    } else {
      load_rows(source, batch, channel + c, count, located, staged, count);
    }
    if constexpr (!kGrid) {
      scatter_rows(rows, tile, taps, active, prefetch);
    } else {
      const bool read_on = params.packed_channels == 0 && count == 3 &&
                           can_read_on(tile, geometry, params.input, batch);
      backward_rows<kInput>(rows, tile, derivatives, taps, read_on, prefetch, sums);
      apply_slopes(tile, derivatives, sums);
      const int64_t piece = (channel + c) / params.piece_channels;
      const int64_t of_others = piece - ceil_div(params.group_channels, params.piece_channels);
      if (of_others >= 0) {
        const int64_t which = (of_others * geometry.batch + batch) * tile_count(geometry) + t;
        std::memcpy(static_cast<compute_t*>(params.partial) + which * geometry.dims * kTileSize,
                    sums, geometry.dims * sizeof(sums[0]));
      } else {
        add_to_grad_grid(geometry, params.grad_grid, batch, first, tile.count, piece == 0, sums);
      }
    }
  }
}

/// Both gradients for channels [channel, channel + channels) of the images `batches`:
/// rows of the input and of grad_input, addressed by `view`.
template <bool kInput, bool kGrid, typename Tile>
void backward_block(const BackwardParams& params, const View& view, const compute_t* image,
                    compute_t* grad_image, Zeros* zeros, int64_t channel, int64_t channels,
                    Range batches) {
  const Geometry& geometry = params.geometry;
  if constexpr (ModeTraits<Tile::kMode>::kCopies) {
    static_assert(kInput && !kGrid);
    const int outermost = geometry.dims - 1;
    const Range all{0, geometry.input_size[outermost]};
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      add_nearest_rows(geometry, params.grid, params.grad_output, batch,
                       {channel, channel + channels}, view, outermost, all, grad_image, *zeros,
                       [](int64_t) { return true; });
    }
  } else {
    Tile tile(geometry.dims);
    std::conditional_t<kGrid, TapDerivatives<Tile>, const None> derivatives{};
    const bool in_place = kGrid && params.packed_channels == 0;
    const ImagePrefetch prefetch(geometry, params.input, sizeof(compute_t), true, Pass::kBackward);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const int64_t first = t * kTileSize;
        fill_taps(tile, derivatives, geometry, params.grid, batch, first,
                  tile_samples(geometry, batch, first), view);
        if (in_place) {
          prefetch(batch, first, tile.count, {channel, channel + channels}, tile.axis[1].offset[0],
                   tile.count);
        }
        if constexpr (kInput) zeros->zero_to(tile, view);
        backward_tile<kInput, kGrid>(params, view, tile, derivatives, image, grad_image, channel,
                                     channels, batch, t);
      }
    }
  }
  if constexpr (kInput) zeros->finish();
}

/// A block whose channels are planes in memory. grad_input is summed as rows in the scratch, then
/// turned into planes where it belongs; until then the input is packed there. If grad_input is not
/// wanted, the input is packed into the scratch.
template <bool kInput, bool kGrid, typename Tile>
void backward_packed_block(const BackwardParams& params, int64_t worker, int64_t input_batch,
                           int64_t channel, int64_t channels, Range batches) {
  const Geometry& geometry = params.geometry;
  const int64_t plane = packed_elements(geometry, 1);
  auto* scratch = static_cast<compute_t*>(params.scratch) +
                  worker * packed_elements(geometry, params.packed_channels);
  compute_t* planes = nullptr;
  compute_t* packed = scratch;
  if constexpr (kInput) {
    planes = static_cast<compute_t*>(params.grad_input.data) +
             input_batch * params.grad_input.batch_stride + channel * plane;
    packed = planes;
  }
  if constexpr (kGrid) {
    pack_image(params.input, geometry, input_batch, channel, static_cast<int>(channels), packed);
  }
  const int outermost = geometry.dims - 1;
  Zeros zeros(scratch, geometry, channels, channels, 1, outermost,
              {0, geometry.input_size[outermost]});
  backward_block<kInput, kGrid, Tile>(params, packed_view(packed, geometry, channels), packed,
                                      scratch, &zeros, channel, channels, batches);
  if constexpr (kInput) {
    transpose_to_planes<ScalarOf<compute_t>>(scratch, channels, static_cast<int>(channels), plane,
                                             planes, plane);
  }
}

template <bool kInput, bool kGrid, typename Tile>
void backward_items(const BackwardParams& params, int64_t worker, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / params.groups;
    const int64_t channel = item % params.groups * params.group_channels;
    const int64_t channel_end = std::min(geometry.channels, channel + params.group_channels);
    const Range batches = batches_of(geometry, params.input_batch, input_batch);
    if (params.packed_channels > 0) {
      if constexpr (!ModeTraits<Tile::kMode>::kCopies) {  // which packing does not help
        for (int64_t c = channel; c < channel_end; c += params.packed_channels) {
          backward_packed_block<kInput, kGrid, Tile>(
              params, worker, input_batch, c, std::min(params.packed_channels, channel_end - c),
              batches);
        }
      }
    } else {
      const auto* image = static_cast<const compute_t*>(params.input.data) +
                          input_batch * params.input.batch_stride + channel;
      compute_t* grad_image = nullptr;
      if constexpr (kInput) {
        grad_image = static_cast<compute_t*>(params.grad_input.data) +
                     input_batch * params.grad_input.batch_stride + channel;
      }
      const int outermost = geometry.dims - 1;
      Zeros zeros(params.grad_input, geometry, input_batch, {channel, channel_end}, outermost,
                  {0, geometry.input_size[outermost]});
      backward_block<kInput, kGrid, Tile>(params, params.input, image, grad_image, &zeros, channel,
                                          channel_end - channel, batches);
    }
  }
}

void backward(const BackwardParams& params, int64_t worker, int64_t begin, int64_t end) {
  const bool wants_input = params.grad_input.data != nullptr;
  if (!params.grad_grid.is_wanted()) {
    dispatch_tile(params.geometry, [&]<typename Tile>() {
      backward_items<true, false, Tile>(params, worker, begin, end);
    });
    return;
  }
  dispatch_smooth_tile(params.geometry, [&]<typename Tile>() {
    if (wants_input) {
      backward_items<true, true, Tile>(params, worker, begin, end);
    } else {
      backward_items<false, true, Tile>(params, worker, begin, end);
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
