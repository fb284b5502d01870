// Packaged models against TorchScript in the program's own libtorch.
#include <multipy_actors/torch.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

#include "support.h"

using namespace support;

namespace {

/// The bytes of a file, read in pieces.
class FileReader final : public Reader {
 public:
  explicit FileReader(const std::string& path) : file_(path, std::ios::binary) {
    contents_.assign(std::istreambuf_iterator<char>(file_), {});
  }
  std::size_t size() const override { return contents_.size(); }
  std::size_t read(std::uint64_t position, void* target, std::size_t count) const override {
    count = std::min<std::size_t>(count, 10'000);
    return contents_.copy(static_cast<char*>(target), count, position);
  }

 private:
  std::ifstream file_;
  std::string contents_;
};

at::Tensor in_torchscript(const std::string& name, const at::Tensor& input) {
  const c10::InferenceMode guard;
  auto model = torch::jit::load(data(name));
  return model.forward({input}).toTensor().clone();
}

const Package& package() {
  static const Package package = manager().loadPackage(data("models.zip"));
  return package;
}

}  // namespace

TEST_CASE("a simple model computes what TorchScript does") {
  const ReplicatedObj model = package().loadPickle("simple", "model.pkl");
  const at::Tensor input = at::arange(20, at::kFloat).reshape({10, 2}).t().contiguous();
  const at::Tensor expected = in_torchscript("simple.torchscript", input);
  CHECK(at::allclose(model(input).to<at::Tensor>(), expected));
  CHECK(at::allclose(model.submit(input).get<at::Tensor>(), expected));
  CHECK(at::allclose(model.callKwargs({{"input", input}}).to<at::Tensor>(), expected));
}

TEST_CASE("a network of convolutions computes what TorchScript does, serially and in threads") {
  const ReplicatedObj model = package().loadPickle("model", "model.pkl", /*eager=*/true);
  const at::Tensor input = at::ones({1, 3, 32, 32});
  const at::Tensor expected = in_torchscript("model.torchscript", input);
  for (int i = 0; i < 3; ++i) CHECK(at::allclose(model(input).to<at::Tensor>(), expected, 1e-4, 1e-5));
  std::vector<at::Tensor> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = model(input).to<at::Tensor>(); });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) CHECK(at::allclose(result, expected, 1e-4, 1e-5));
}

TEST_CASE("a model's weights are in memory once") {
  const ReplicatedObj model = package().loadPickle("simple", "model.pkl");
  std::vector<void*> addresses;
  for (const auto& interpreter : manager().allInstances()) {
    const auto session = model.acquireSession(interpreter);
    addresses.push_back(session.self.attr("weight").to<at::Tensor>().data_ptr());
  }
  CHECK(addresses[0] == addresses[1]);
}

TEST_CASE("a package has many sessions, texts, bytes and modules") {
  for (int i = 0; i < 4; ++i) {
    const auto session = package().acquireSession();
    const Obj model = session.self.attr("load_pickle")("simple", "model.pkl");
    CHECK(model.hasattr("weight"));
    CHECK(session.global("models", "Simple").attr("__module__").value().kind() == Value::Kind::text);
    CHECK(session.global("math", "sqrt")(4).to<double>() == 2);
  }
  CHECK(package().loadText("model", "readme.txt") == "A small network.");
  CHECK(package().loadBinary("model", "bytes") == std::string("\0\1\2", 3));
  CHECK(package().importModule("models").callMethod("answer") == Value(42));
}

TEST_CASE("a package is loaded from a reader") {
  const auto read = manager().loadPackage(FileReader(data("models.zip")));
  CHECK(read.loadText("model", "readme.txt") == "A small network.");
  const ReplicatedObj model = read.loadPickle("simple", "model.pkl");
  CHECK(model(at::zeros({2, 10})).to<at::Tensor>().sizes() == at::IntArrayRef({10, 10}));
}

TEST_CASE("bad paths, bad archives and bad pickles throw, and the next call works") {
  CHECK(thrown<RemoteError>([] { manager().loadPackage("/nowhere/models.zip"); }).type() == "FileNotFoundError");
  CHECK_THROWS_AS(manager().loadPackage(data("no_archive.zip")), RemoteError);
  CHECK_THROWS_AS(manager().loadPackage(FileReader(data("no_archive.zip"))), RemoteError);
  CHECK_THROWS_AS(manager().loadPackage(FileReader("/nowhere/models.zip")), Error);
  CHECK_THROWS_AS(package().loadPickle("simple", "no_such.pkl"), RemoteError);
  CHECK_THROWS_AS(package().loadPickle("bad", "garbage.pkl"), RemoteError);
  CHECK(
      contains(thrown<RemoteError>([] { package().loadPickle("bad", "raises.pkl"); }).what(), "it does not unpickle"));
  CHECK_THROWS_AS(package().loadText("model", "no_such.txt"), RemoteError);
  CHECK_THROWS_AS(package().importModule("no_such_module"), RemoteError);
  CHECK(package().loadText("model", "readme.txt") == "A small network.");
}

TEST_CASE("objects of a package outlive it, and not their manager") {
  ReplicatedObj model;
  std::unique_ptr<Package> kept;
  {
    InterpreterManager own(1);
    model = own.loadPackage(data("models.zip")).loadPickle("simple", "model.pkl");
    kept = std::make_unique<Package>(own.loadPackage(data("models.zip")));
    CHECK(model(at::zeros({2, 10})).to<at::Tensor>().size(0) == 10);
  }
  CHECK_THROWS_AS(model(at::zeros({2, 10})), ClosedError);
  CHECK_THROWS_AS(kept->loadPickle("simple", "model.pkl"), ClosedError);
  CHECK_THROWS_AS(kept->acquireSession(), ClosedError);
}
