// The ops in a program without Python: forward and backward by PyTorch's dispatcher, then a package
// that AOTInductor made of a model which samples. tests/test_ops_library.py compiles and runs it.
//
//   ops_program LIBRARY [PACKAGE]

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/grid_sampler_2d.h>
#include <ATen/ops/grid_sampler_2d_backward.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <dlfcn.h>
#include <link.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <array>
#include <exception>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

namespace {

constexpr int64_t kBilinear = 0, kZeros = 0;
constexpr bool kAlignCorners = true;
constexpr double kCubic = -0.75;

template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

at::Tensor grid_sample(const at::Tensor& input, const at::Tensor& grid) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, int64_t, int64_t, bool, bool,
                               double, std::optional<double>, double);
  static const auto op = find_op<Signature>("gridsample_ext::grid_sample");
  return op.call(input, grid, kBilinear, kZeros, kAlignCorners, false, 0.0, std::nullopt, kCubic);
}

std::tuple<at::Tensor, at::Tensor> grid_sample_backward(const at::Tensor& grad_output,
                                                        const at::Tensor& input,
                                                        const at::Tensor& grid) {
  using Signature = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t, int64_t, bool,
      std::array<bool, 2>, bool, bool, double, std::optional<double>, double);
  static const auto op = find_op<Signature>("gridsample_ext::grid_sample_backward");
  return op.call(grad_output, input, grid, kBilinear, kZeros, kAlignCorners, {true, true}, false,
                 false, 0.0, std::nullopt, kCubic);
}

void expect_close(const char* name, const at::Tensor& actual, const at::Tensor& expected) {
  if (!at::allclose(actual, expected, 1e-5, 1e-5)) {
    throw std::runtime_error(std::string(name) + " differs from PyTorch's");
  }
}

/// Of one image, printed, and of random ones, compared with PyTorch's kernels.
void sample() {
  const at::Tensor image = at::arange(16, at::kFloat).reshape({1, 1, 4, 4});
  const at::Tensor corner_and_centre = at::tensor({-1.f, -1.f, 0.f, 0.f}).reshape({1, 1, 2, 2});
  const at::Tensor output = grid_sample(image, corner_and_centre);
  const auto [grad_input, grad_grid] =
      grid_sample_backward(at::ones_like(output), image, corner_and_centre);
  for (const auto& [name, tensor] : {std::pair{"output", output},
                                     {"grad_input", grad_input.flatten()},
                                     {"grad_grid", grad_grid.flatten()}}) {
    std::cout << name << ":";
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      std::cout << ' ' << tensor.flatten()[i].item<float>();
    }
    std::cout << '\n';
  }

  const at::Tensor images = at::randn({2, 5, 16, 17});
  const at::Tensor grid = at::rand({2, 11, 13, 2}) * 2.4 - 1.2;
  const at::Tensor grad_output = at::randn({2, 5, 11, 13});
  expect_close("output", grid_sample(images, grid),
               at::grid_sampler_2d(images, grid, kBilinear, kZeros, kAlignCorners));
  const auto ours = grid_sample_backward(grad_output, images, grid);
  const auto theirs = at::grid_sampler_2d_backward(grad_output, images, grid, kBilinear, kZeros,
                                                   kAlignCorners, {true, true});
  expect_close("grad_input", std::get<0>(ours), std::get<0>(theirs));
  expect_close("grad_grid", std::get<1>(ours), std::get<1>(theirs));
}

/// A model that returns twice the samples of an image (1, 3, 8, 8) at a grid (1, 5, 5, 2).
void run_package(const char* path) {
  torch::inductor::AOTIModelPackageLoader model(path);
  const at::Tensor image = at::randn({1, 3, 8, 8}), grid = at::rand({1, 5, 5, 2}) * 2 - 1;
  const std::vector<at::Tensor> outputs = model.run({image, grid});
  if (outputs.size() != 1 || !at::equal(outputs[0], grid_sample(image, grid) * 2)) {
    throw std::runtime_error("the package's output is not that of the op");
  }
  std::cout << "package: the op's output\n";
}

void print_loaded_libraries() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        std::cout << "loaded: " << info->dlpi_name << '\n';
        return 0;
      },
      nullptr);
}

}  // namespace

int main(int argc, char** argv) try {
  if (dlopen(argv[1], RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
  sample();
  if (argc > 2) run_package(argv[2]);
  print_loaded_libraries();
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
