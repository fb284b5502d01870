// What the public classes of values hide: the core's tensors, and what travels without being read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exchange/tensor.h"
#include "multipy_actors/tensor.h"
#include "multipy_actors/value.h"
#include "task/payload.h"

namespace multipy_actors::detail {

/// A tensor as multipy_actors/wire/tensors.py describes it.
struct TensorParts {
  std::shared_ptr<multipy::SharedTensor> shared;
  Tensor::Kind kind = Tensor::Kind::tensor;
  bool requires_grad = false;
  // The type of elements where DLPack does not tell it: a name, or a pickle if it is an array.
  std::string told = {};
  bool told_as_bytes = false;
  std::optional<std::vector<std::int64_t>> strides = {};  // that DLPack does not tell; of arrays in bytes

  static Tensor make(TensorParts parts) {
    Tensor tensor;
    tensor.parts_ = std::make_shared<const TensorParts>(std::move(parts));
    return tensor;
  }
  static const TensorParts& of(const Tensor& tensor) { return tensor.parts(); }
};

/// Either something of the core that travels by reference (a call, whose result is meant, an actor, or memory that
/// arrives as a memoryview), or the name of a function or class.
struct Object {
  std::shared_ptr<multipy::Attachment> attachment = {};
  bool is_result = false;  // an argument is awaited only if it is not part of another
  bool is_memory = false;
  std::string reference = {};  // "module\nname"

  static Value wrap(Object object) {
    Value value;
    value.kind_ = Value::Kind::object;
    value.data_ = std::make_shared<const Object>(std::move(object));
    return value;
  }
  static Value function(const std::string& module, const std::string& name) {
    return wrap({.reference = module + "\n" + name});
  }
  /// The number of an integer that 64 bits hold, else null.
  static const std::int64_t* small(const Value& value) { return std::get_if<std::int64_t>(&value.data_); }
  static const Object& of(const Value& value) { return *std::get<std::shared_ptr<const Object>>(value.data_); }
};

}  // namespace multipy_actors::detail
