// Requests as bytes, and results back: as much MessagePack as a program needs that calls functions by name.
//
// The format is that of multipy_actors/wire/messagepack.py: a request is [operation, args, kwargs], tagged, because it
// holds the name of a function. Results are read as long as they are plain: nothing, numbers, texts, bytes, lists and
// tuples.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace document {

/// Encoded, and so ready to become part of another.
using Bytes = std::string;

inline Bytes big_endian(std::uint64_t value, int bytes) {
  Bytes out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}

inline Bytes nothing() { return "\xc0"; }
inline Bytes number(std::int64_t value) { return "\xd3" + big_endian(static_cast<std::uint64_t>(value), 8); }
inline Bytes text(std::string_view value) { return "\xdb" + big_endian(value.size(), 4) + Bytes(value); }

inline Bytes list(const std::vector<Bytes>& items) {
  Bytes out = "\xdd" + big_endian(items.size(), 4);
  for (const auto& item : items) out += item;
  return out;
}

inline Bytes dictionary(const std::vector<std::pair<std::string, Bytes>>& items) {
  Bytes out = "\xdf" + big_endian(items.size(), 4);
  for (const auto& [key, value] : items) out += text(key) + value;
  return out;
}

/// A function or class that an import of `module` leads to.
inline Bytes function(std::string_view module, std::string_view name) {
  const Bytes path = Bytes(module) + "\n" + Bytes(name);
  return "\xc7" + big_endian(path.size(), 1) + "\x18" + path;
}

inline Bytes request(const Bytes& operation, const Bytes& args, const Bytes& kwargs) {
  using namespace std::string_literals;
  return "\x92\xc7\x00\x7f"s + list({operation, args, kwargs});
}

struct Value {
  enum class Kind { nothing, integer, real, text, list, mark };
  Kind kind = Kind::nothing;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;          // bytes too
  std::vector<Value> items;  // of a list, or of a tuple
};

/// Reads one value; throws if it is not as expected, or of a kind that is not plain.
class Reader {
 public:
  explicit Reader(std::string_view data) : rest_(data) {}

  Value read() {
    const auto head = static_cast<std::uint8_t>(bytes(1)[0]);
    if (head < 0x80) return integer(head);
    if (head >= 0xe0) return integer(static_cast<std::int8_t>(head));
    if ((head & 0xe0) == 0xa0) return text(head & 0x1f);
    if ((head & 0xf0) == 0x90) return list(head & 0x0f);
    switch (head) {
      case 0xc0:
        return {};
      case 0xc2:
      case 0xc3:
        return integer(head & 1);
      case 0xc4:
      case 0xd9:
        return text(unsigned_number(1));
      case 0xc5:
      case 0xda:
        return text(unsigned_number(2));
      case 0xc6:
      case 0xdb:
        return text(unsigned_number(4));
      case 0xcb:
        return real(unsigned_number(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return integer(static_cast<std::int64_t>(unsigned_number(1 << (head - 0xcc))));
      case 0xd0:
        return integer(static_cast<std::int8_t>(unsigned_number(1)));
      case 0xd1:
        return integer(static_cast<std::int16_t>(unsigned_number(2)));
      case 0xd2:
        return integer(static_cast<std::int32_t>(unsigned_number(4)));
      case 0xd3:
        return integer(static_cast<std::int64_t>(unsigned_number(8)));
      case 0xc7:
        return mark();
      case 0xdc:
        return list(unsigned_number(2));
      case 0xdd:
        return list(unsigned_number(4));
      default:
        throw std::runtime_error("not plain data: MessagePack type " + std::to_string(head));
    }
  }

 private:
  static constexpr std::int64_t kTuple = 1;
  static constexpr std::int64_t kTagged = 127;

  std::string_view bytes(std::size_t count) {
    if (count > rest_.size()) throw std::runtime_error("a result ends too early");
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint64_t unsigned_number(int count) {
    std::uint64_t value = 0;
    for (const char byte : bytes(static_cast<std::size_t>(count))) value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }
  static Value integer(std::int64_t number) {
    Value value;
    value.kind = Value::Kind::integer;
    value.integer = number;
    return value;
  }
  static Value real(std::uint64_t bits) {
    Value value;
    value.kind = Value::Kind::real;
    static_assert(sizeof value.real == sizeof bits);
    __builtin_memcpy(&value.real, &bits, sizeof bits);
    return value;
  }
  Value text(std::size_t size) {
    Value value;
    value.kind = Value::Kind::text;
    value.text = bytes(size);
    return value;
  }
  Value list(std::size_t count) {
    Value value;
    value.kind = Value::Kind::list;
    for (std::size_t i = 0; i < count; ++i) {
      Value item = read();
      if (item.kind != Value::Kind::mark) {
        value.items.push_back(std::move(item));
      } else if (item.integer == kTagged && count == 2) {
        return read();  // what is tagged follows
      } else if (item.integer != kTuple) {
        throw std::runtime_error("not plain data: mark " + std::to_string(item.integer));
      }
    }
    return value;
  }
  Value mark() {
    const auto size = unsigned_number(1);
    Value value = integer(static_cast<std::int64_t>(unsigned_number(1)));
    value.kind = Value::Kind::mark;
    if (size != 0) throw std::runtime_error("not plain data: extension " + std::to_string(value.integer));
    return value;
  }

  std::string_view rest_;
};

}  // namespace document
