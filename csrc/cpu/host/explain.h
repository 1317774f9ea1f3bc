#pragma once

// Plans for those who ask: of a call given as plain numbers, and of the calls that were made.

#include <string>
#include <utility>
#include <vector>

#include "cpu/plan/plan.h"
#include "math/macros.h"

namespace gridsample_ext::cpu {

/// The paths that this thread's last call of each op took, for tests.
struct Executed {
  ForwardPath output = ForwardPath::kEmpty;
  GradInputPath grad_input = GradInputPath::kNotWanted;
  GradGridPath grad_grid = GradGridPath::kNotWanted;
  JvpPath tangent = JvpPath::kEmpty;
  SecondGradInputPath second_grad_input = SecondGradInputPath::kNotWanted;
  SecondGradGridPath second_grad_grid = SecondGradGridPath::kNotWanted;
};
extern constinit thread_local Executed executed;

/// Its name by result: "output", "grad_input", "grad_grid", "tangent", "second grad_input",
/// "second grad_grid".
using Names = std::vector<std::pair<std::string, std::string>>;
GRIDSAMPLE_EXPORT Names executed_paths();

/// Every path that there is, by result.
GRIDSAMPLE_EXPORT std::vector<std::pair<std::string, std::vector<std::string>>> all_paths();

/// What is known of a tensor; no data.
struct TensorFacts {
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  std::string dtype;  // PyTorch's name
  bool channels_last = false;
};

/// A call of an op: "forward", "backward", "jvp" or "double_backward". Its arguments have been
/// checked.
struct CallFacts {
  std::string op;
  TensorFacts input;
  TensorFacts grid;
  TensorFacts tangent_input;  // of second order; no sizes: none
  bool moves_grid = false;    // of second order
  Options options{};
  bool wants_input = true;
  bool wants_grid = true;
  // Whether samples are scattered is seen from the grid's data if there is an address.
  bool scattered = false;
  uint64_t grid_address = 0;
  int64_t threads = 0;               // the most that may be used; 0: PyTorch's number
  std::vector<std::string> without;  // memory, by name, that is not to be had
};

struct Explanation {
  Names paths;
  Names reasons;
  std::string instruction_set;
  int64_t threads = 1;
  std::vector<std::pair<std::string, int64_t>> memory;  // bytes; without what takes none
  std::vector<std::pair<std::string, int64_t>> split;
};

GRIDSAMPLE_EXPORT Explanation explain(const CallFacts& facts);

}  // namespace gridsample_ext::cpu
