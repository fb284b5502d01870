// MessagePack's form of what stands before a value: its type, and its number or how long it is.
//
// Values themselves are of two kinds, with one writer and reader each: Python's (bindings/bind_packing.cpp) and those
// of C++ programs (embed/wire.h). What is read was written by an interpreter of this process; lengths are checked all
// the same. Throws std::length_error for what is too long to be written, std::invalid_argument for what is no document.
#pragma once

#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace multipy::message_pack {

/// Writes each value in as few bytes as it can be.
class Output {
 public:
  explicit Output(std::string_view begin = {}) : text_(begin) {}
  std::string take() { return std::move(text_); }
  std::string_view text() const noexcept { return text_; }

  void none() { byte(0xc0); }
  void boolean(bool value) { byte(value ? 0xc3 : 0xc2); }
  void real(double value) { typed(0xcb, std::bit_cast<std::uint64_t>(value), 8); }
  void integer(std::int64_t value) {
    const auto bits = static_cast<std::uint64_t>(value);
    if (value >= 0) return unsigned_integer(bits);
    if (value >= -32) return byte(static_cast<int>(value) & 0xff);
    const int power = value >= INT8_MIN ? 0 : value >= INT16_MIN ? 1 : value >= INT32_MIN ? 2 : 3;
    typed(0xd0 + power, bits, 1 << power);
  }
  void unsigned_integer(std::uint64_t value) { value < 128 ? byte(static_cast<int>(value)) : sized(0xcc, value); }
  void text(std::string_view contents) {
    const auto count = checked(contents.size());
    count < 32 ? byte(0xa0 | static_cast<int>(count)) : sized(0xd9, count);
    text_ += contents;
  }
  void bytes(std::string_view contents) {
    sized(0xc4, checked(contents.size()));
    text_ += contents;
  }
  void extension(int code, std::string_view contents) {
    const auto count = checked(contents.size());
    count <= 16 && std::has_single_bit(count) ? byte(0xd4 + std::countr_zero(count)) : sized(0xc7, count);
    byte(code);
    text_ += contents;
  }
  /// `count` values follow.
  void list(std::size_t count) { container(0x90, 0xdc, count); }
  /// `count` keys follow, each with its value.
  void dict(std::size_t count) { container(0x80, 0xde, count); }

 private:
  static std::uint64_t checked(std::size_t count) {
    if (count > UINT32_MAX) throw std::length_error("more than 2**32 - 1 items or bytes cannot be packed");
    return count;
  }
  void byte(int value) { text_.push_back(static_cast<char>(value)); }
  void typed(int type, std::uint64_t value, int bytes) {
    char encoded[9] = {static_cast<char>(type)};
    for (int i = bytes; i > 0; --i, value >>= 8) encoded[i] = static_cast<char>(value & 0xff);
    text_.append(encoded, static_cast<std::size_t>(bytes) + 1);
  }
  /// With as many bytes as `value` needs; the types for 1, 2, 4 and 8 follow each other.
  void sized(int type, std::uint64_t value) {
    const int power = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
    typed(type + power, value, 1 << power);
  }
  void container(int smallest, int type, std::size_t count) {
    if (checked(count) < 16) return byte(smallest | static_cast<int>(count));
    count <= UINT16_MAX ? typed(type, count, 2) : typed(type + 1, count, 4);
  }

  std::string text_;
};

enum class Kind { none, boolean, integer, unsigned_integer, real, text, bytes, list, dict, extension };

/// `number` is the value itself, in 64 bits; of the last five kinds, how many bytes or items there are.
struct Head {
  Kind kind;
  std::uint64_t number = 0;

  std::int64_t integer() const noexcept { return static_cast<std::int64_t>(number); }
  double real() const noexcept { return std::bit_cast<double>(number); }
};

class Input {
 public:
  explicit Input(std::string_view text) : rest_(text) {}
  bool empty() const noexcept { return rest_.empty(); }
  std::string_view rest() const noexcept { return rest_; }
  [[noreturn]] static void malformed() { throw std::invalid_argument("not a document"); }

  /// After that of an extension come its code, in a byte, and as many bytes as it says.
  Head head() {
    const int type = static_cast<std::uint8_t>(bytes(1)[0]);
    if (type < 0x80) return {Kind::integer, static_cast<std::uint64_t>(type)};
    if (type >= 0xe0) return signed_integer(type - 0x100);
    if (type < 0x90) return container(Kind::dict, type & 0x0f);
    if (type < 0xa0) return container(Kind::list, type & 0x0f);
    if (type < 0xc0) return {Kind::text, static_cast<std::uint64_t>(type & 0x1f)};
    if (type == 0xc0) return {Kind::none};
    if (type == 0xc1) malformed();
    if (type <= 0xc3) return {Kind::boolean, static_cast<std::uint64_t>(type == 0xc3)};
    if (type <= 0xc6) return {Kind::bytes, number(1 << (type - 0xc4))};
    if (type <= 0xc9) return {Kind::extension, number(1 << (type - 0xc7))};
    if (type == 0xca) {
      const double value = std::bit_cast<float>(static_cast<std::uint32_t>(number(4)));
      return {Kind::real, std::bit_cast<std::uint64_t>(value)};
    }
    if (type == 0xcb) return {Kind::real, number(8)};
    if (type <= 0xcf) return {Kind::unsigned_integer, number(1 << (type - 0xcc))};
    if (type == 0xd0) return signed_integer(static_cast<std::int8_t>(number(1)));
    if (type == 0xd1) return signed_integer(static_cast<std::int16_t>(number(2)));
    if (type == 0xd2) return signed_integer(static_cast<std::int32_t>(number(4)));
    if (type == 0xd3) return {Kind::integer, number(8)};
    if (type <= 0xd8) return {Kind::extension, std::uint64_t{1} << (type - 0xd4)};
    if (type <= 0xdb) return {Kind::text, number(1 << (type - 0xd9))};
    if (type <= 0xdd) return container(Kind::list, number(2 << (type - 0xdc)));
    return container(Kind::dict, number(2 << (type - 0xde)));
  }

  std::string_view bytes(std::uint64_t count) {
    if (count > rest_.size()) malformed();
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

 private:
  static Head signed_integer(std::int64_t value) { return {Kind::integer, static_cast<std::uint64_t>(value)}; }
  Head container(Kind kind, std::uint64_t count) const {
    if (count > rest_.size() / (kind == Kind::dict ? 2 : 1)) malformed();  // each item is a byte at least
    return {kind, count};
  }
  std::uint64_t number(int count) {
    std::uint64_t value = 0;
    for (const char byte : bytes(static_cast<std::uint64_t>(count)))
      value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }

  std::string_view rest_;
};

}  // namespace multipy::message_pack
