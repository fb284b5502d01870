// Conversions and comparisons of values; see multipy_actors/value.h.
#include "multipy_actors/value.h"

#include <charconv>
#include <cmath>
#include <ostream>
#include <stdexcept>

#include "big_integer.h"
#include "parts.h"

namespace multipy_actors {

namespace {

const char* name_of(Value::Kind kind) {
  switch (kind) {
    case Value::Kind::none:
      return "None";
    case Value::Kind::boolean:
      return "a bool";
    case Value::Kind::integer:
      return "an int";
    case Value::Kind::real:
      return "a float";
    case Value::Kind::text:
      return "a str";
    case Value::Kind::bytes:
      return "bytes";
    case Value::Kind::list:
      return "a list";
    case Value::Kind::tuple:
      return "a tuple";
    case Value::Kind::dict:
      return "a dict";
    case Value::Kind::tensor:
      return "a tensor";
    case Value::Kind::object:
      break;
  }
  return "an object of Python, which has no counterpart in C++: keep it there as an Obj";
}

std::string repr_of(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, number).ptr;
  std::string out(text, end);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string quoted(const std::string& text, bool bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = bytes ? "b'" : "'";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (code < 0x20 || code == 0x7f || (bytes && code > 0x7f)) {
      out += {'\\', 'x', kHex[code >> 4], kHex[code & 15]};
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string repr_of(const Tensor& tensor) {
  if (!tensor) return "<no tensor>";
  std::string out = tensor.kind() == Tensor::Kind::array ? "<array " : "<tensor ";
  out += tensor.dtypeName() + " (";
  const auto shape = tensor.shape();
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)>" : ")>");
}

}  // namespace

Value Value::bytes(std::string contents) {
  Value value(std::move(contents));
  value.kind_ = Kind::bytes;
  return value;
}

Value Value::tuple(List items) {
  Value value(std::move(items));
  value.kind_ = Kind::tuple;
  return value;
}

Value Value::integer(std::string_view decimal) {
  if (const auto small = small_integer(decimal)) return *small;
  Value value(integer_of_bytes(bytes_of_integer(decimal)));
  value.kind_ = Kind::integer;
  return value;
}

void Value::refuse(const char* asked) const {
  throw ConversionError(std::string("not ") + asked + ", but " + name_of(kind_));
}

bool Value::toBool() const {
  if (kind_ != Kind::boolean) refuse("a bool");
  return std::get<bool>(data_);
}

std::int64_t Value::toInt() const {
  if (kind_ != Kind::integer) refuse("an int");
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return *number;
  throw ConversionError("64 bits do not hold the int " + std::get<std::string>(data_));
}

std::string Value::integerText() const {
  if (kind_ != Kind::integer) refuse("an int");
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return std::to_string(*number);
  return std::get<std::string>(data_);
}

double Value::toDouble() const {
  if (kind_ == Kind::real) return std::get<double>(data_);
  if (kind_ != Kind::integer) refuse("a float");
  if (const auto* number = std::get_if<std::int64_t>(&data_)) return static_cast<double>(*number);
  return std::stod(std::get<std::string>(data_));
}

const std::string& Value::toText() const {
  if (kind_ != Kind::text) refuse("a str");
  return std::get<std::string>(data_);
}

const std::string& Value::toBytes() const {
  if (kind_ != Kind::bytes) refuse("bytes");
  return std::get<std::string>(data_);
}

const Value::List& Value::toList() const {
  if (kind_ != Kind::list && kind_ != Kind::tuple) refuse("a list or tuple");
  return std::get<List>(data_);
}

const Value::Dict& Value::toDict() const {
  if (kind_ != Kind::dict) refuse("a dict");
  return std::get<Dict>(data_);
}

const Tensor& Value::toTensor() const {
  if (kind_ != Kind::tensor) refuse("a tensor");
  return std::get<Tensor>(data_);
}

std::size_t Value::size() const {
  if (kind_ == Kind::dict) return toDict().size();
  if (kind_ == Kind::text || kind_ == Kind::bytes) return std::get<std::string>(data_).size();
  if (kind_ != Kind::list && kind_ != Kind::tuple) refuse("something that has a length");
  return toList().size();
}

const Value* Value::find(std::string_view key) const {
  for (const auto& [name, value] : toDict()) {
    if (name.kind_ == Kind::text && name.toText() == key) return &value;
  }
  return nullptr;
}

const Value& Value::at(std::string_view key) const {
  if (const Value* found = find(key)) return *found;
  throw std::out_of_range("the dict has no key '" + std::string(key) + "'");
}

bool Value::contains(std::string_view key) const { return find(key) != nullptr; }

std::string Value::repr() const {
  const auto join = [](const auto& items, const char* begin, const char* end, const auto& show) {
    std::string out = begin;
    for (const auto& item : items) out += (&item == &items.front() ? "" : ", ") + show(item);
    return out + end;
  };
  switch (kind_) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return toBool() ? "True" : "False";
    case Kind::integer:
      return integerText();
    case Kind::real:
      return repr_of(toDouble());
    case Kind::text:
    case Kind::bytes:
      return quoted(std::get<std::string>(data_), kind_ == Kind::bytes);
    case Kind::list:
      return join(toList(), "[", "]", [](const Value& item) { return item.repr(); });
    case Kind::tuple:
      return join(toList(), "(", size() == 1 ? ",)" : ")", [](const Value& item) { return item.repr(); });
    case Kind::dict:
      return join(toDict(), "{", "}", [](const auto& item) { return item.first.repr() + ": " + item.second.repr(); });
    case Kind::tensor:
      return repr_of(toTensor());
    case Kind::object:
      break;
  }
  return "<an object of Python>";
}

bool operator==(const Value& left, const Value& right) {
  if (left.kind_ != right.kind_) return false;
  if (left.kind_ == Value::Kind::tensor)
    return &detail::TensorParts::of(left.toTensor()) == &detail::TensorParts::of(right.toTensor());
  if (left.kind_ == Value::Kind::list || left.kind_ == Value::Kind::tuple) return left.toList() == right.toList();
  if (left.kind_ != Value::Kind::dict) {
    return std::visit(
        [&right](const auto& data) {
          using Data = std::decay_t<decltype(data)>;
          if constexpr (std::is_same_v<Data, Value::Dict> || std::is_same_v<Data, Value::List> ||
                        std::is_same_v<Data, Tensor>) {
            return false;
          } else {
            const auto* other = std::get_if<Data>(&right.data_);
            return other != nullptr && *other == data;
          }
        },
        left.data_);
  }
  // As in Python, whatever the order.
  const auto& items = left.toDict();
  const auto& others = right.toDict();
  if (items.size() != others.size()) return false;
  for (const auto& item : items) {
    bool found = false;
    for (const auto& other : others) found = found || (item.first == other.first && item.second == other.second);
    if (!found) return false;
  }
  return true;
}

std::ostream& operator<<(std::ostream& out, const Value& value) { return out << value.repr(); }

}  // namespace multipy_actors
