// Runs the kernels without PyTorch's library and compares them with plain loops.
//
//   driver               on the instruction set that GRIDSAMPLE_EXT_ISA names, or the best
//   driver --list        the instruction sets compiled in that this CPU has

#include <cstdio>
#include <cstring>
#include <random>
#include <string>

#include "calls.h"
#include "reference.h"

namespace native {
namespace {

/// What is compared, and how far apart the worst two numbers are, as a part of what is allowed.
struct Report {
  std::string name;
  int64_t compared = 0;
  int64_t failed = 0;
  double worst = 0;

  /// `tolerance`: of the largest number; the sums have terms of its size.
  void compare(const char* what, const std::vector<double>& actual,
               const std::vector<double>& wanted, double tolerance) {
    double largest = 1;
    for (const double value : wanted) largest = std::max(largest, std::fabs(value));
    double apart = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double difference = std::fabs(actual[i] - wanted[i]);
      apart = difference <= apart ? apart : difference;  // NaN stays
    }
    const double part = apart / (largest * tolerance);
    ++compared;
    worst = part <= worst ? worst : part;
    check(what, part <= 1, part);
  }
  void check(const char* what, bool holds, double part = 0) {
    if (holds) return;
    if (++failed <= 20)
      std::printf("FAILED %s %s: %g times what is allowed\n", name.c_str(), what, part);
  }
};

struct Shape {
  int dims;
  int64_t input[kMaxDims], output[kMaxDims];
};
constexpr Shape kShapes[] = {
    {2, {17, 13, 1}, {19, 21, 1}},  // more samples than a tile has
    {2, {1, 1, 1}, {5, 3, 1}},     {2, {40, 2, 1}, {1, 1, 1}},
    {3, {5, 7, 6}, {6, 5, 4}},     {3, {1, 1, 1}, {3, 2, 2}},
};
constexpr int64_t kChannels[] = {1, 2, 3, 4, 8, 35};

std::vector<double> random_values(std::mt19937& random, int64_t count, double reach) {
  std::vector<double> values(static_cast<size_t>(count));
  // 11 bits, which float16 holds; of bfloat16 the driver rounds them first.
  for (double& value : values) value = (static_cast<double>(random() % 2048) / 1024 - 1) * reach;
  return values;
}

Tensors random_tensors(std::mt19937& random, const Geometry& geometry, int64_t pixels) {
  const int64_t images = geometry.batch * geometry.channels;
  const int64_t points = geometry.batch * geometry.samples * geometry.dims;
  Tensors given;
  given.input = random_values(random, images * pixels, 1);
  given.tangent_input = random_values(random, images * pixels, 1);
  given.grad_output = random_values(random, images * geometry.samples, 1);
  given.tangent_grid = random_values(random, points, 1);
  given.grid = random_values(random, points, 1.5);
  // Far away, beyond what 32 bits count, at the ends, and what is not a number.
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kSpecial[] = {kNan,     kInfinity, -kInfinity,  1e30,         -1e30,
                                 1234.567, -77.7,     1,           -1,           0,
                                 -0.0,     1e18,      0x1p31 + 10, 0x1p32 + 3.5, -0x1p32 - 2.25};
  size_t next = 0;
  for (size_t i = 0; i < given.grid.size(); ++i) {
    if (i % 7 == 3 && given.grid.size() > 3) given.grid[i] = kSpecial[next++ % std::size(kSpecial)];
  }
  return given;
}

/// All kernels of compute type T for one geometry and layout.
template <typename T>
void check_kernels(const Geometry& geometry, const Tensors& given, const Results& wanted, bool rows,
                   Report& report) {
  constexpr double kTolerance = sizeof(T) == 8 ? 1e-13 : 2e-5;
  const auto compare = [&](const char* what, const std::vector<double>& actual,
                           const std::vector<double>& expected) {
    report.compare(what, actual, expected, kTolerance);
  };
  const bool smooth = geometry.mode != Mode::kNearest;
  const bool packs = smooth && !rows && geometry.channels >= 4;
  const auto image = [&](bool as_rows) {
    return Tensor<T>(geometry.batch, geometry.channels, geometry.input_size, as_rows);
  };
  const auto samples = [&] {
    return Tensor<T>(geometry.batch, geometry.channels, geometry.output_size, rows);
  };
  Grid<T> grid(geometry), tangent_grid(geometry);
  grid.set(given.grid);
  tangent_grid.set(given.tangent_grid);
  Tensor<T> input = image(rows), grad_output = samples();
  input.set(given.input);
  grad_output.set(given.grad_output);

  const auto forward = [&](const char* what, const auto& run) {
    Tensor<T> output = samples();
    run(output.view);
    compare(what, output.get(), wanted.output);
    report.check("forward's guards", output.guards_hold());
  };
  forward("forward",
          [&](const View& output) { run_forward(geometry, input.view, grid.view, output); });
  if (packs) {
    forward("forward, packed", [&](const View& output) {
      run_forward_packed<T>(geometry, input.view, grid.view, output);
    });
  }

  const auto backward = [&](const char* what, bool to_input, bool to_grid, const auto& run) {
    Tensor<T> grad_input = image(rows);
    Grid<T> grad_grid(geometry);
    BackwardViews views{grad_output.view, input.view, grid.view, {}, {}};
    if (to_input) views.grad_input = grad_input.view;
    if (to_grid) views.grad_grid = grad_grid.view;
    run(views);
    if (to_input) compare(what, grad_input.get(), wanted.grad_input);
    if (to_grid) compare(what, grad_grid.get(geometry), wanted.grad_grid);
    report.check("backward's guards", grad_input.guards_hold() && grad_grid.guards_hold());
  };
  if (geometry.samples * geometry.batch <= kTileSize) {
    // Two images are taken together, and then the third.
    const Geometry grouped = group_images(geometry, 2);
    const auto group = [&](const View& view) { return group_images(view, grouped); };
    forward("forward, images together", [&](const View& output) {
      run_forward(grouped, group(input.view), group(grid.view), group(output));
    });
    const auto grouped_views = [&](const BackwardViews& views) {
      return BackwardViews{group(views.grad_output), group(views.input), group(views.grid),
                           group(views.grad_input), group(views.grad_grid)};
    };
    backward("grad_input, images together", true, false, [&](const BackwardViews& views) {
      run_grad_input(grouped, grouped_views(views), false);
    });
    if (smooth) {
      backward("backward in slabs, images together", true, true, [&](const BackwardViews& views) {
        run_backward_in_slabs(grouped, grouped_views(views));
      });
      backward("grad_grid, images together", false, true, [&](const BackwardViews& views) {
        run_grad_grid<T>(grouped, grouped_views(views), false);
      });
    }
  }
  if (has_rows(geometry, input.view)) {
    backward("backward", true, smooth,
             [&](const BackwardViews& views) { run_backward<T>(geometry, views, 0); });
  }
  if (packs) {
    backward("backward, packed", true, true, [&](const BackwardViews& views) {
      run_backward<T>(geometry, views, packed_block(geometry));
    });
    backward("grad_grid, packed", false, true,
             [&](const BackwardViews& views) { run_grad_grid_packed<T>(geometry, views); });
  }
  for (const bool scattered : {false, true}) {
    backward(scattered ? "grad_input, scattered" : "grad_input", true, false,
             [&](const BackwardViews& views) { run_grad_input(geometry, views, scattered); });
  }
  if (smooth) {
    backward("backward in slabs", true, true,
             [&](const BackwardViews& views) { run_backward_in_slabs(geometry, views); });
    for (const bool groups : {false, true}) {
      backward(groups ? "grad_grid in groups" : "grad_grid", false, true,
               [&](const BackwardViews& views) { run_grad_grid<T>(geometry, views, groups); });
    }
  }

  Tensor<T> tangent_input = image(true), image_rows = image(true);
  tangent_input.set(given.tangent_input);
  run_to_rows(geometry, input.view, image_rows.view);
  compare("to_rows", image_rows.get(), given.input);
  Tensor<T> back = image(rows);
  run_from_rows(geometry, back.view, image_rows.view);
  compare("from_rows", back.get(), given.input);
  if (smooth) {
    Tensor<T> output = samples(), grad_input = image(true);
    Grid<T> grad_grid(geometry);
    run_second_order(geometry, {grid.view, tangent_grid.view, image_rows.view, tangent_input.view,
                                grad_output.view, output.view, grad_input.view, grad_grid.view});
    compare("jvp", output.get(), wanted.jvp);
    compare("double backward to input", grad_input.get(), wanted.second_input);
    compare("double backward to grid", grad_grid.get(geometry), wanted.second_grid);
    report.check("second order's guards",
                 output.guards_hold() && grad_input.guards_hold() && grad_grid.guards_hold());
  }

  const auto plain = [&](bool second_order, bool listed) {
    Tensor<T> output = samples(), grad_input = image(rows);
    Grid<T> grad_grid(geometry);
    grad_input.set(std::vector<double>(given.input.size()));
    run_plain(geometry,
              {grid.view, second_order ? tangent_grid.view : View{}, input.view,
               second_order ? tangent_input.view : View{}, grad_output.view, output.view,
               grad_input.view, grad_grid.view},
              listed);
    compare("plain output", output.get(), second_order ? wanted.jvp : wanted.output);
    compare(listed ? "plain taps" : "plain scatter", grad_input.get(),
            second_order ? wanted.second_input : wanted.grad_input);
    if (smooth) {
      compare("plain grad_grid", grad_grid.get(geometry),
              second_order ? wanted.second_grid : wanted.grad_grid);
    }
    report.check("plain guards",
                 output.guards_hold() && grad_input.guards_hold() && grad_grid.guards_hold());
  };
  plain(false, rows);
  if (smooth) plain(true, !rows);
}

/// Images of a 16-bit type, computed in float32. Their values are exact in it.
template <typename S>
void check_storage(const Geometry& geometry, Tensors given, bool rows, Report& report) {
  constexpr double kTolerance = std::is_same_v<S, torch::headeronly::Half> ? 0x1p-10 : 0x1p-7;
  for (auto* values : {&given.input, &given.grad_output}) {
    for (double& value : *values) value = static_cast<double>(S(static_cast<float>(value)));
  }
  const Results wanted = expected<float>(geometry, given);
  Tensor<S> input(geometry.batch, geometry.channels, geometry.input_size, rows);
  Tensor<S> output(geometry.batch, geometry.channels, geometry.output_size, rows);
  Tensor<S> grad_output(geometry.batch, geometry.channels, geometry.output_size, rows);
  Tensor<float> grad_input(geometry.batch, geometry.channels, geometry.input_size, rows);
  Grid<float> grid(geometry);
  input.set(given.input);
  grad_output.set(given.grad_output);
  grid.set(given.grid);
  run_forward(geometry, input.view, grid.view, output.view);
  report.compare("forward", output.get(), wanted.output, kTolerance);
  report.check("forward's guards", output.guards_hold());
  run_grad_input(geometry, {grad_output.view, {}, grid.view, grad_input.view, {}}, false);
  report.compare("grad_input", grad_input.get(), wanted.grad_input, 2e-5);
}

/// As bits. PyTorch's classes convert by instruction on aarch64, which keeps a NaN's payload.
template <typename S>
uint16_t rounded(float value) {
  if constexpr (std::is_same_v<S, torch::headeronly::Half>) {
    return torch::headeronly::detail::fp16_ieee_from_fp32_value(value);
  } else {
    return torch::headeronly::detail::round_to_nearest_even(value);
  }
}

/// Every number of a 16-bit type as a channel of one pixel, times a few weights: conversions are
/// exact on the way in, and round as PyTorch's do on the way out.
template <typename S>
void check_bits(const char* type, Report& report) {
  constexpr int kNumbers = 1 << 16;
  Geometry geometry;
  geometry.batch = geometry.samples = 1;
  geometry.channels = kNumbers;
  std::vector<S> input(kNumbers), output(kNumbers);
  for (int bits = 0; bits < kNumbers; ++bits) input[bits].x = static_cast<uint16_t>(bits);
  View image;
  image.dtype = kDTypeOf<S>;
  image.batch_stride = kNumbers;
  image.channel_stride = 1;
  std::fill_n(image.stride, kMaxDims, kNumbers);
  for (const double x : {0.0, 0.6, 1.875, 1.9999}) {
    Grid<float> grid(geometry);
    grid.set({x, 0});
    const float weight = 1 - ((static_cast<float>(x) + 1) - 1) / 2;
    View to = image;
    image.data = input.data();
    to.data = output.data();
    run_forward(geometry, image, grid.view, to);
    int64_t wrong = 0;
    for (int bits = 0; bits < kNumbers; ++bits) {
      wrong += output[bits].x != rounded<S>(static_cast<float>(input[bits]) * weight + 0.0f);
    }
    report.name = std::string("all numbers of ") + type;
    ++report.compared;
    report.check("as bits", wrong == 0, static_cast<double>(wrong));
  }
}

template <typename T>
void check_type(const char* type, Report& report) {
  std::mt19937 random(20);
  for (const Shape& shape : kShapes) {
    for (const int64_t channels : kChannels) {
      for (const Mode mode : {Mode::kBilinear, Mode::kNearest, Mode::kBicubic}) {
        for (const Padding padding :
             {Padding::kZeros, Padding::kBorder, Padding::kReflection, Padding::kCircular}) {
          Geometry geometry;
          geometry.dims = shape.dims;
          geometry.mode = mode;
          std::fill_n(geometry.padding, kMaxDims, padding);
          geometry.padding[random() % 2] = static_cast<Padding>(random() % 4);
          geometry.pixel_coordinates = random() % 2 == 0;
          if (random() % 2 == 0) geometry.cubic_coefficient = -0.5;
          geometry.bspline = random() % 2 == 0;
          geometry.align_corners = random() % 2 == 0;
          geometry.compute_in_double = sizeof(T) == 8;
          geometry.batch = 3;
          geometry.channels = channels;
          geometry.samples = 1;
          int64_t pixels = 1;
          for (int a = 0; a < kMaxDims; ++a) {
            geometry.input_size[a] = shape.input[a];
            geometry.output_size[a] = shape.output[a];
            geometry.samples *= shape.output[a];
            pixels *= shape.input[a];
          }
          const Tensors given = random_tensors(random, geometry, pixels);
          const Results wanted = expected<T>(geometry, given);
          for (const bool rows : {false, true}) {
            char name[160];
            std::snprintf(name, sizeof(name),
                          "%s, %d-D, %lld pixels, %lld channels, mode %d, padding %d, "
                          "align_corners %d, %s:",
                          type, shape.dims, static_cast<long long>(pixels),
                          static_cast<long long>(channels), static_cast<int>(mode),
                          static_cast<int>(padding), geometry.align_corners,
                          rows ? "rows" : "planes");
            report.name = name;
            check_kernels<T>(geometry, given, wanted, rows, report);
            if constexpr (sizeof(T) == 4) {
              report.name = std::string("float16 in ") + name;
              check_storage<torch::headeronly::Half>(geometry, given, rows, report);
              report.name = std::string("bfloat16 in ") + name;
              check_storage<torch::headeronly::BFloat16>(geometry, given, rows, report);
            }
          }
        }
      }
    }
  }
}

int run() {
  int64_t failed = 0;
  const auto check = [&](const char* type, const auto& function) {
    Report report;
    function(type, report);
    failed += report.failed;
    std::printf("%s, %s: %lld comparisons, %lld failures, worst %.2g of what is allowed\n",
                active_isa().c_str(), type, static_cast<long long>(report.compared),
                static_cast<long long>(report.failed), report.worst);
  };
  check("float", check_type<float>);
  check("double", check_type<double>);
  check("float16", check_bits<torch::headeronly::Half>);
  check("bfloat16", check_bits<torch::headeronly::BFloat16>);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace native

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "--list") == 0) {
    for (const std::string& isa : gridsample_ext::supported_isas())
      std::printf("%s\n", isa.c_str());
    return 0;
  }
  gridsample_ext::check_environment();
  return native::run();
}
