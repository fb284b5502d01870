// What is sent to Python and comes back: data as both languages have it, and tensors.
//
// A Value is None, a bool, an int of any size, a float, a str, bytes, a list, a tuple, a dict or a tensor. A result of
// Python code may be something else (a set, a date, a model): then its kind is `object`. Such a Value cannot be read
// here, but it may be passed on as an argument, which arrives as what it is. To work with objects of Python, keep them
// there: see Obj in session.h.
//
//   Value value = std::vector<int>{1, 2, 3};           Value::Dict{{"name", "minilm"}, {"size", 384}}
//   auto numbers = value.to<std::vector<int>>();       value.at(0).to<int>()
//
// A list whose only item is a list has to be written Value::List{Value(list)}: to C++, Value::List{list} is a copy.
//
// Other types take part by a specialisation of Converter; torch.h has those for at::Tensor and c10::IValue.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "multipy_actors/errors.h"
#include "multipy_actors/tensor.h"

namespace multipy_actors {

class Value;

namespace detail {
struct Object;  // what stays as Python has encoded it
}

/// `static Value toValue(const T&)` and `static T fromValue(const Value&)` for a type that Value does not know.
template <typename T, typename = void>
struct Converter;

class MULTIPY_ACTORS_API Value {
  template <typename T, typename = void>
  struct IsConvertible : std::false_type {};
  template <typename T>
  struct IsConvertible<T, std::void_t<decltype(Converter<T>::toValue(std::declval<const T&>()))>> : std::true_type {};

 public:
  enum class Kind { none, boolean, integer, real, text, bytes, list, tuple, dict, tensor, object };
  using List = std::vector<Value>;
  /// In Python's order; keys can be of any kind that Python hashes.
  using Dict = std::vector<std::pair<Value, Value>>;

  /// None.
  Value() noexcept = default;
  Value(std::nullptr_t) noexcept {}
  template <typename T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  Value(T number) {
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = Kind::boolean;
      data_ = number;
    } else if constexpr (std::is_floating_point_v<T>) {
      kind_ = Kind::real;
      data_ = static_cast<double>(number);
    } else {
      kind_ = Kind::integer;
      if constexpr (std::is_unsigned_v<T> && sizeof(T) >= sizeof(std::int64_t)) {
        if (number > static_cast<T>(std::numeric_limits<std::int64_t>::max())) {
          data_ = std::to_string(number);
          return;
        }
      }
      data_ = static_cast<std::int64_t>(number);
    }
  }
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(std::string text) : kind_(Kind::text), data_(std::move(text)) {}
  Value(List items) : kind_(Kind::list), data_(std::move(items)) {}
  Value(Dict items) : kind_(Kind::dict), data_(std::move(items)) {}
  Value(Tensor tensor) : kind_(Kind::tensor), data_(std::move(tensor)) {}
  template <typename T>
  Value(const std::vector<T>& items) : kind_(Kind::list), data_(List(items.begin(), items.end())) {}
  template <typename T>
  Value(const std::map<std::string, T>& items) : kind_(Kind::dict), data_(Dict(items.begin(), items.end())) {}
  template <typename T>
  Value(const std::unordered_map<std::string, T>& items) : kind_(Kind::dict), data_(Dict(items.begin(), items.end())) {}
  template <typename T, std::enable_if_t<IsConvertible<T>::value, int> = 0>
  Value(const T& other) : Value(Converter<T>::toValue(other)) {}

  static Value bytes(std::string contents);
  static Value tuple(List items);
  /// An int of any size, in decimal.
  static Value integer(std::string_view decimal);

  Kind kind() const noexcept { return kind_; }
  bool isNone() const noexcept { return kind_ == Kind::none; }

  // Each throws ConversionError for a Value of another kind.
  bool toBool() const;
  /// Also if it is an int that 64 bits cannot hold: integerText() has it.
  std::int64_t toInt() const;
  std::string integerText() const;
  /// Of a float or an int.
  double toDouble() const;
  const std::string& toText() const;
  const std::string& toBytes() const;
  /// Of a list or a tuple.
  const List& toList() const;
  const Dict& toDict() const;
  const Tensor& toTensor() const;

  /// As bool, a number, std::string (of str or bytes), Tensor, Value, a vector, a map with std::string keys, or
  /// whatever has a Converter.
  template <typename T>
  T to() const;

  /// The items of a list, tuple or dict, or the length of a str or bytes in bytes.
  std::size_t size() const;
  /// Of a list or tuple; throws std::out_of_range.
  template <typename Index, std::enable_if_t<std::is_integral_v<Index>, int> = 0>
  const Value& at(Index index) const {
    return toList().at(static_cast<std::size_t>(index));
  }
  /// Of a dict; throws std::out_of_range.
  const Value& at(std::string_view key) const;
  const Value& at(const char* key) const { return at(std::string_view(key)); }
  bool contains(std::string_view key) const;

  /// As Python's repr() tells it; tensors by type and shape.
  std::string repr() const;
  /// Equal kinds with equal contents; tensors and objects if they are the same one.
  friend MULTIPY_ACTORS_API bool operator==(const Value& left, const Value& right);
  friend bool operator!=(const Value& left, const Value& right) { return !(left == right); }
  friend MULTIPY_ACTORS_API std::ostream& operator<<(std::ostream& out, const Value& value);

 private:
  friend struct detail::Object;

  template <typename T>
  struct IsVector : std::false_type {};
  template <typename T>
  struct IsVector<std::vector<T>> : std::true_type {};
  template <typename T>
  struct IsMap : std::false_type {};
  template <typename T>
  struct IsMap<std::map<std::string, T>> : std::true_type {};
  template <typename T>
  struct IsMap<std::unordered_map<std::string, T>> : std::true_type {};

  [[noreturn]] void refuse(const char* asked) const;
  const Value* find(std::string_view key) const;

  Kind kind_ = Kind::none;
  // An integer beyond 64 bits is a text.
  std::variant<std::monostate, bool, std::int64_t, double, std::string, List, Dict, Tensor,
               std::shared_ptr<const detail::Object>>
      data_;
};

template <typename T>
T Value::to() const {
  if constexpr (std::is_same_v<T, Value>) {
    return *this;
  } else if constexpr (std::is_same_v<T, bool>) {
    return toBool();
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(toDouble());
  } else if constexpr (std::is_integral_v<T>) {
    if constexpr (std::is_unsigned_v<T> && sizeof(T) >= sizeof(std::int64_t)) {
      const std::string text = integerText();
      try {
        if (text.front() != '-') return static_cast<T>(std::stoull(text));
      } catch (const std::out_of_range&) {
      }
    } else {
      const std::int64_t number = toInt();
      if (number >= static_cast<std::int64_t>(std::numeric_limits<T>::min()) &&
          number <= static_cast<std::int64_t>(std::numeric_limits<T>::max()))
        return static_cast<T>(number);
    }
    refuse("an int of the type asked for, whose range it exceeds");
  } else if constexpr (std::is_same_v<T, std::string>) {
    return kind_ == Kind::bytes ? toBytes() : toText();
  } else if constexpr (std::is_same_v<T, Tensor>) {
    return toTensor();
  } else if constexpr (IsVector<T>::value) {
    T items;
    for (const Value& item : toList()) items.push_back(item.to<typename T::value_type>());
    return items;
  } else if constexpr (IsMap<T>::value) {
    T items;
    for (const auto& item : toDict())
      items.emplace(item.first.toText(), item.second.template to<typename T::mapped_type>());
    return items;
  } else {
    return Converter<T>::fromValue(*this);
  }
}

}  // namespace multipy_actors
