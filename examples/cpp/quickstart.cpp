// Runs a model that torch.package has put into a file: `quickstart PACKAGE`, made by make_package.py.
//
// Built with MULTIPY_EXAMPLES_TORCH the tensors are libtorch's; without it the program has no torch of its own.
#include <multipy_actors/multipy_actors.h>

#include <exception>
#include <iostream>
#include <vector>

#ifdef MULTIPY_EXAMPLES_TORCH
#include <multipy_actors/torch.h>
#endif

using namespace multipy_actors;

namespace {

void run(const char* path) {
  InterpreterManager manager(4);

  // The weights are in memory once; each interpreter has the model's code.
  Package package = manager.loadPackage(path);
  ReplicatedObj model = package.loadPickle("model", "model.pkl");

#ifdef MULTIPY_EXAMPLES_TORCH
  at::Tensor input = at::ones({1, 3, 32, 32});
  at::Tensor output = model(input).to<at::Tensor>();
  const auto first = output.flatten()[0].item<float>();
#else
  Tensor input = Tensor::of(std::vector<float>(3 * 32 * 32, 1.0F), {1, 3, 32, 32});
  Tensor output = model(input).to<Tensor>();
  const auto first = output.elements<float>().at(0);
#endif

  // The same from as many threads as there are interpreters, without a thread of our own.
  std::vector<Future> results;
  for (std::size_t i = 0; i < manager.size(); ++i) results.push_back(model.submit(input));
  for (const Future& result : results) result.get();

  std::cout << "ok\n" << first << std::endl;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: quickstart PACKAGE\n";
    return 2;
  }
  try {
    run(arguments[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
