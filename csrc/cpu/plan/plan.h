#pragma once

// What a call does, decided before it does anything: the path of each result, how threads share
// the work, what memory it takes, and why. Plans are made of plain numbers, without tensors and
// without PyTorch; the host carries them out (cpu/host).

#include <cstdint>

#include "cpu/plan/paths.h"
#include "cpu/work.h"

namespace gridsample_ext::cpu {

/// An (N, C, [D,] H, W) tensor. Plans look at its strides and type, not at its data.
struct Image {
  View view;
  int64_t batch = 0;
  bool channels_last = false;  // the layout of results for it
};

/// Bytes beside the results. The host can do without the first five.
struct Memory {
  int64_t packed_blocks = 0;  // rows of channels, a block for each thread
  int64_t shared_block = 0;   // rows of channels, one block for all threads
  int64_t partial_sums = 0;   // of grad_grid
  int64_t slab_ranges = 0;    // where each tile's taps lie
  int64_t listed_taps = 0;
  int64_t image_copies = 0;   // images in the compute type, or as rows
  int64_t result_copies = 0;  // results in the compute type, or as rows
};

/// What could not be allocated, and is not to be planned with.
struct Without {
  bool packed_blocks = false;
  bool shared_block = false;
  bool partial_sums = false;
  bool slab_ranges = false;
  bool listed_taps = false;
};

struct ForwardCall {
  Geometry geometry;
  Image input;
  View output;
};

struct ForwardPlan {
  ForwardPath path = ForwardPath::kEmpty;
  const char* reason = "";
  int64_t threads = 1;
  int64_t items = 0;
  bool widens = false;  // computed from and into float64 copies
  int64_t packed_channels = 0;
  int64_t images_per_group = 1;  // taken together; what follows is of groups
  int64_t run_tiles = 1;
  int64_t channel_blocks = 1;
  Memory memory;
};

ForwardPlan plan_forward(const ForwardCall& call, int64_t most_threads, const Without& without);

/// How grad_input is divided: see GradInputParams. Slabs may be cut finer when their tiles' ranges
/// are known (finer_slabs).
struct GradInputSplit {
  int64_t channel_blocks = 1;
  int64_t slabs = 1;
  int slab_axis = 0;
};

struct BackwardCall {
  Geometry geometry;
  Image input;
  DType grid_dtype = DType::kFloat;
  int64_t grid_batch = 0;
  bool wants_input = false;
  bool wants_grid = false;
  bool scattered = false;   // samples that follow each other lie far apart
  bool sums_apart = false;  // each image has sums of its own: images are not taken together
};

struct BackwardPlan {
  GradInputPath grad_input = GradInputPath::kNotWanted;
  GradGridPath grad_grid = GradGridPath::kNotWanted;
  const char* grad_input_reason = "";
  const char* grad_grid_reason = "";
  int64_t threads = 1;
  int64_t grad_input_items = 0;
  int64_t grad_grid_items = 0;
  bool copies_input = false;     // to the compute type
  int64_t images_per_group = 1;  // taken together; what follows is of groups
  int64_t packed_channels = 0;   // of a block, if blocks of this image are ever packed
  int64_t piece_channels = 0;
  int64_t groups = 1;  // of channels, in one walk
  int64_t group_channels = 0;
  int64_t partial_sums = 0;  // to be added up for each element of grad_grid
  GradInputSplit split;
  int64_t chunk_groups = 1;  // of grad_grid by itself
  Memory memory;
};

/// Whether a plan may depend on BackwardCall::scattered, which takes looking at the grid.
bool asks_whether_scattered(const BackwardCall& call);

BackwardPlan plan_backward(const BackwardCall& call, int64_t most_threads, const Without& without);

/// Both second-order ops: directions (U, V) for input and grid.
struct SecondOrderCall {
  Geometry geometry;
  Image input;
  bool moves_input = false;
  Image tangent_input;  // if it moves
  bool moves_grid = false;
  int64_t grid_batch = 0;    // of double backward
  bool wants_input = false;  // of double backward
  bool wants_grid = false;   // of double backward
};

struct JvpPlan {
  JvpPath path = JvpPath::kEmpty;
  const char* reason = "";
  int64_t threads = 1;
  int64_t items = 0;
  Memory memory;  // of kLinear without that of the forward pass
};

JvpPlan plan_jvp(const SecondOrderCall& call, int64_t most_threads);

struct DoubleBackwardPlan {
  SecondGradInputPath grad_input = SecondGradInputPath::kNotWanted;
  SecondGradGridPath grad_grid = SecondGradGridPath::kNotWanted;
  const char* grad_input_reason = "";
  const char* grad_grid_reason = "";
  int64_t threads = 1;
  int64_t grad_input_items = 0;
  int64_t grad_grid_items = 0;
  GradInputSplit split;
  Memory memory;  // of kLinear without that of the backward pass
};

DoubleBackwardPlan plan_double_backward(const SecondOrderCall& call, int64_t most_threads,
                                        const Without& without);

}  // namespace gridsample_ext::cpu
