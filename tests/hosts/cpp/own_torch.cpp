// A program that links libtorch: c10 and ATen are in the global scope, and have their own state.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DefaultDtype.h>
#include <dlfcn.h>

#include <set>

#include "own_library.h"

namespace {

constexpr std::int64_t kSide = 32;
constexpr std::int64_t kSeed = 7;

/// As guest.py's `random_product`.
std::vector<double> random_product(std::int64_t seed) {
  at::manual_seed(static_cast<std::uint64_t>(seed));
  const at::Tensor matrix = at::randn({kSide, kSide}, at::kDouble);
  const at::Tensor product = at::matmul(matrix, matrix).sum(0).contiguous();
  return {product.data_ptr<double>(), product.data_ptr<double>() + product.numel()};
}

void use_autograd() {
  at::Tensor leaf = at::arange(3, at::kDouble).set_requires_grad(true);
  (leaf * leaf).sum().backward();
  require(at::equal(leaf.grad(), 2 * at::arange(3, at::kDouble)), "the host's gradients are right");
}

void catch_an_error() {
  try {
    at::matmul(at::ones({2}), at::ones({3}));
  } catch (const c10::Error& error) {
    require(std::string(error.what()).find("size") != std::string::npos, "c10::Error says why");
    return;
  }
  throw std::runtime_error("libtorch did not throw");
}

std::vector<double> reals(const document::Value& value) {
  std::vector<double> out;
  for (const auto& item : value.items) out.push_back(item.real);
  return out;
}

}  // namespace

void use_own_library() {
  at::set_num_threads(1);
  use_autograd();
  catch_an_error();
  require(random_product(kSeed).size() == kSide, "the host computes");
}

void compare_own_library(Interpreters& interpreters) {
  const auto expected = random_product(kSeed);
  at::manual_seed(1);
  const at::Tensor first = at::rand({4});
  std::vector<Interpreters::CallPtr> calls;
  for (std::size_t i = 0; i < interpreters.pool().size(); ++i) {
    const auto seed = kSeed + static_cast<std::int64_t>(i);
    calls.push_back(interpreters.submit(i, "random_product", {document::number(seed), document::number(kSide)}));
  }
  for (int round = 0; round < 50; ++round) {
    use_autograd();
    catch_an_error();
  }
  const auto same = reals(Interpreters::value_of(*calls[0]));
  const auto other = reals(Interpreters::value_of(*calls[1]));
  require(same == expected, "an interpreter computes what the host does");
  require(other == random_product(kSeed + 1) && other != same, "another seed gives other numbers");

  at::manual_seed(1);
  require(at::equal(first, at::rand({4})), "a seed gives the host the same numbers again");
  const at::Tensor following = at::rand({4});
  at::manual_seed(1);
  at::rand({4});
  for (std::size_t i = 0; i < interpreters.pool().size(); ++i) interpreters.call(i, "change_torch");
  require(at::equal(following, at::rand({4})), "interpreters do not touch the host's random numbers");
  require(c10::get_default_dtype_as_scalartype() == at::kFloat, "nor its default type");
  require(at::get_num_threads() == 1, "nor its number of threads");

  // Where the library lies: in the host once, and once in every interpreter.
  Dl_info own{};
  const auto* somewhere = reinterpret_cast<const void*>(&at::native::is_nonzero);
  require(::dladdr(somewhere, &own) != 0, "libtorch_cpu is found");
  std::set<std::uintptr_t> bases{reinterpret_cast<std::uintptr_t>(own.dli_fbase)};
  for (std::size_t i = 0; i < interpreters.pool().size(); ++i) {
    for (const auto& image : interpreters.pool().interpreter(i).images().images()) {
      if (image.path.ends_with("/libtorch_cpu.so")) bases.insert(image.base);
    }
  }
  require(bases.size() == interpreters.pool().size() + 1, "everybody has a libtorch_cpu of their own");
}
