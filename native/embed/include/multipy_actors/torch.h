// at::Tensor and c10::IValue as arguments and results, for programs that link libtorch.
//
// Header-only: it is compiled with the program's own libtorch, which may be another one than the interpreters'. Tensors
// are handed over by DLPack, so both sides use the same memory, and nothing is copied. As everywhere, gradients do not
// cross: `requires_grad` arrives as a flag of a detached leaf.
//
//   at::Tensor out = model(at::ones({1, 3})).to<at::Tensor>();
#pragma once

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "multipy_actors/value.h"

namespace multipy_actors {

namespace detail {

/// "float8_e5m2": what Python calls a type of elements.
inline std::string name_of(at::ScalarType type) {
  std::string name = c10::toString(type);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

inline at::ScalarType scalar_type(const std::string& name) {
  for (int i = 0; i < static_cast<int>(at::ScalarType::NumOptions); ++i) {
    const auto type = static_cast<at::ScalarType>(i);
    if (name_of(type) == name) return type;
  }
  throw ConversionError("libtorch has no type of elements " + name);
}

/// Has the device's default stream wait for what the current one still computes: that is where receivers begin.
inline void order_streams(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(tensor.device().type());
  const auto current = guard.getStream(tensor.device());
  const auto shared = guard.getDefaultStream(tensor.device());
  if (current == shared) return;
  c10::Event event(tensor.device().type());
  event.record(current);
  event.block(shared);
}

inline bool is_known_to_dlpack(at::ScalarType type) {
  return !c10::isQIntType(type) && !c10::isBitsType(type) && name_of(type).compare(0, 6, "float8") != 0 &&
         name_of(type).compare(0, 6, "float4") != 0;
}

}  // namespace detail

template <>
struct Converter<at::Tensor> {
  /// None for a tensor that is not defined.
  static Value toValue(const at::Tensor& tensor) {
    if (!tensor.defined()) return nullptr;
    if (tensor.layout() != at::kStrided || tensor.is_quantized())
      throw ConversionError("a tensor that is sparse or quantised cannot be shared");
    // The alias hangs on nothing of the program but the memory.
    at::Tensor alias = tensor.detach().resolve_conj().resolve_neg();
    detail::order_streams(alias);
    const bool known = detail::is_known_to_dlpack(alias.scalar_type());
    Tensor shared = Tensor::adopt(at::toDLPack(known ? alias : alias.view(at::kByte)));
    if (!known) shared = shared.named(detail::name_of(alias.scalar_type()));
    return tensor.requires_grad() ? shared.as(Tensor::Kind::tensor, true) : shared;
  }

  static at::Tensor fromValue(const Value& value) {
    const Tensor& shared = value.toTensor();
    at::Tensor tensor = at::fromDLPack(shared.view());
    if (shared.dtypeName() != shared.dtype().name()) tensor = tensor.view(detail::scalar_type(shared.dtypeName()));
    return shared.requiresGrad() ? tensor.set_requires_grad(true) : tensor;
  }
};

template <>
struct Converter<c10::IValue> {
  static Value toValue(const c10::IValue& value) {
    if (value.isNone()) return nullptr;
    if (value.isTensor()) return value.toTensor();
    if (value.isBool()) return value.toBool();
    if (value.isInt()) return value.toInt();
    if (value.isDouble()) return value.toDouble();
    if (value.isString()) return value.toStringRef();
    if (value.isTuple()) return Value::tuple(items_of(value.toTupleRef().elements()));
    if (value.isList()) return items_of(value.toListRef());
    if (value.isGenericDict()) {
      Value::Dict items;
      for (const auto& item : value.toGenericDict()) items.emplace_back(toValue(item.key()), toValue(item.value()));
      return items;
    }
    throw ConversionError("an IValue that is a " + value.tagKind() + " cannot be sent");
  }

  /// Lists of one kind of elements are of that kind: List[int], List[Tensor]. Bytes become a string.
  static c10::IValue fromValue(const Value& value) {
    switch (value.kind()) {
      case Value::Kind::none:
        return {};
      case Value::Kind::boolean:
        return value.toBool();
      case Value::Kind::integer:
        return value.toInt();
      case Value::Kind::real:
        return value.toDouble();
      case Value::Kind::text:
        return value.toText();
      case Value::Kind::bytes:
        return value.toBytes();
      case Value::Kind::tensor:
        return value.to<at::Tensor>();
      case Value::Kind::tuple: {
        std::vector<c10::IValue> items;
        for (const Value& item : value.toList()) items.push_back(fromValue(item));
        return c10::ivalue::Tuple::create(std::move(items));
      }
      case Value::Kind::list:
        return list_of(value.toList());
      case Value::Kind::dict: {
        const auto& items = value.toDict();
        const bool texts = std::all_of(items.begin(), items.end(),
                                       [](const auto& item) { return item.first.kind() == Value::Kind::text; });
        c10::impl::GenericDict dict(texts ? c10::TypePtr(c10::StringType::get()) : c10::TypePtr(c10::IntType::get()),
                                    c10::AnyType::get());
        for (const auto& item : items) dict.insert(fromValue(item.first), fromValue(item.second));
        return dict;
      }
      case Value::Kind::object:
        break;
    }
    throw ConversionError("an object of Python cannot be an IValue");
  }

 private:
  template <typename Items>
  static Value::List items_of(const Items& items) {
    Value::List out;
    for (const c10::IValue& item : items) out.push_back(toValue(item));
    return out;
  }

  static c10::IValue list_of(const Value::List& items) {
    const auto all_are = [&](Value::Kind kind) {
      return !items.empty() &&
             std::all_of(items.begin(), items.end(), [kind](const Value& item) { return item.kind() == kind; });
    };
    c10::TypePtr type = c10::AnyType::get();
    if (all_are(Value::Kind::tensor)) type = c10::TensorType::get();
    if (all_are(Value::Kind::integer)) type = c10::IntType::get();
    if (all_are(Value::Kind::real)) type = c10::FloatType::get();
    if (all_are(Value::Kind::boolean)) type = c10::BoolType::get();
    if (all_are(Value::Kind::text)) type = c10::StringType::get();
    c10::impl::GenericList list(type);
    for (const Value& item : items) list.push_back(fromValue(item));
    return list;
  }
};

}  // namespace multipy_actors
