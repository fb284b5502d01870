// Tensors between the program's libtorch and those of the interpreters, and what else these have.
#include <multipy_actors/torch.h>

#include <string>
#include <vector>

#include "support.h"

using namespace support;

namespace {

at::Tensor echo(const at::Tensor& tensor) { return manager().submit("probe", "same", tensor).get<at::Tensor>(); }

}  // namespace

TEST_CASE("tensors go there and back without a copy") {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kByte, at::kBool,
                          at::kComplexFloat, at::kFloat8_e5m2}) {
    CAPTURE(c10::toString(type));
    const at::Tensor tensor = at::ones({3, 4}).to(type).t();
    const at::Tensor back = echo(tensor);
    CHECK(back.data_ptr() == tensor.data_ptr());
    CHECK((back.scalar_type() == type));
    CHECK(back.strides() == tensor.strides());
  }
  CHECK(echo(at::ones({2}).set_requires_grad(true)).requires_grad());
  CHECK_THROWS_AS(echo(at::ones({2, 2}).to_sparse()), ConversionError);
  CHECK(Value(at::Tensor()).isNone());
  CHECK(at::imag(echo(at::complex(at::ones({2}), at::ones({2})).conj())).sum().item().toDouble() == -2);
}

TEST_CASE("a tensor of the program lives as long as an interpreter has it") {
  std::weak_ptr<int> watched;
  ReplicatedObj box;
  {
    const auto session = manager().acquireOne();
    auto alive = std::make_shared<int>();
    watched = alive;
    static float memory[4] = {1, 2, 3, 4};
    const at::Tensor tensor = at::from_blob(memory, {4}, [alive](void*) mutable { alive.reset(); });
    alive.reset();
    box = session.createMovable(session.global("probe", "Box")(tensor));
  }
  CHECK_FALSE(watched.expired());
  CHECK(box().at(0).to<at::Tensor>().sum().item<float>() == 10);
  box.unload();
  for (const auto& interpreter : manager().allInstances()) interpreter.submit("gc", "collect").get();
  box = {};
  CHECK(watched.expired());
}

TEST_CASE("movables that were made of one tensor share its storage") {
  const at::Tensor tensor = at::zeros({3});
  const auto session = manager().acquireOne();
  const Obj box = session.global("probe", "Box")(tensor);
  const ReplicatedObj first = session.createMovable(box);
  const ReplicatedObj second = session.createMovable(box);
  tensor.fill_(7);
  CHECK(first().at(0).to<at::Tensor>().data_ptr() == tensor.data_ptr());
  CHECK(at::equal(second().at(0).to<at::Tensor>(), at::full({3}, 7.0F)));
}

TEST_CASE("autograd runs in two interpreters with gradients of their own") {
  manager().registerModuleSource("learning", R"(
import torch

def gradient(factor):
    x = torch.arange(3.0, requires_grad=True)
    (factor * x * x).sum().backward()
    return x.grad
)");
  std::vector<Future> futures;
  for (int round = 1; round <= 4; ++round) {
    for (const auto& interpreter : manager().allInstances())
      futures.push_back(interpreter.submit("learning", "gradient", round));
  }
  for (std::size_t i = 0; i < futures.size(); ++i) {
    const double factor = static_cast<double>(i / 2 + 1);
    CHECK(at::allclose(futures[i].get<at::Tensor>(), 2 * factor * at::arange(3, at::kFloat)));
  }
  at::Tensor own = at::arange(3, at::kFloat).set_requires_grad(true);
  (own * own).sum().backward();
  CHECK(at::equal(own.grad(), 2 * at::arange(3, at::kFloat)));
}

TEST_CASE("interpreters and the program have random numbers and default types of their own") {
  manager().registerModuleSource("torch_settings",
                                 "import torch\ndef set_default(n): torch.set_default_dtype(getattr(torch, n))\n");
  at::manual_seed(1);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(1);
  for (const auto& interpreter : manager().allInstances()) {
    interpreter.submit("torch", "manual_seed", 5).get();
    interpreter.submit("torch", "rand", 3).get();
    interpreter.submit("torch_settings", "set_default", "float64").get();
    CHECK((interpreter.submit("torch", "ones", 1).get<at::Tensor>().scalar_type() == at::kDouble));
    interpreter.submit("torch_settings", "set_default", "float32").get();
  }
  CHECK(at::equal(at::rand({4}), expected));
  CHECK((at::ones({1}).scalar_type() == at::kFloat));
}

TEST_CASE("an IValue is a value, and a value an IValue") {
  using c10::IValue;
  for (const IValue& value :
       std::vector<IValue>{IValue(), true, 3, 2.5, "text", std::vector<std::int64_t>{1, 2}, std::vector<double>{1.5},
                           std::vector<std::string>{"a"}, c10::ivalue::Tuple::create({1, "b"})}) {
    CHECK(Value(value).to<IValue>() == value);
    CHECK(manager().submit("probe", "same", value).get<IValue>() == value);
  }
  const IValue tensors = manager().submit("probe", "same", std::vector<at::Tensor>{at::ones({2})}).get<IValue>();
  CHECK(tensors.isTensorList());
  c10::Dict<std::string, std::int64_t> dict;
  dict.insert("a", 1);
  CHECK(manager().submit("probe", "same", IValue(dict)).get().at("a") == Value(1));
  CHECK(Value(Value::Dict{{"a", 1}}).to<IValue>().toGenericDict().at("a").toInt() == 1);
}

TEST_CASE("numpy, PyYAML, distributed and the metadata of packages work in interpreters") {
  const at::Tensor tensor = at::arange(6, at::kDouble).reshape({2, 3});
  const auto session = manager().acquireOne();
  const Obj array = session.fromValue(tensor).attr("numpy")();
  CHECK(session.global("numpy", "sum")(array).attr("item")().to<double>() == 15);
  CHECK(session.global("importlib.metadata", "version")("torch").value().kind() == Value::Kind::text);
  manager().registerModuleSource("reducing", R"(
import torch.distributed as distributed

def reduce(tensor):
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    distributed.all_reduce(tensor)
    distributed.destroy_process_group()
    return tensor
)");
  if (session.global("torch.distributed", "is_gloo_available")().to<bool>())
    CHECK(session.global("reducing", "reduce")(tensor.clone()).to<at::Tensor>().sum().item().toDouble() == 15);
  const bool has_yaml = !session.global("importlib.util", "find_spec")("yaml").value().isNone();
  if (has_yaml) {
    CHECK(session.global("yaml", "safe_load")("{a: [1, 2]}").value() == Value(Value::Dict{{"a", Value::List{1, 2}}}));
  } else {
    MESSAGE("PyYAML is not installed");
  }
}
