// A view of untrusted bytes. Every read names its offset and length, and one that leaves the view throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>

namespace multipy {

/// Thrown for a read outside the view; parsers turn it into their own error, naming the file.
class OutOfBounds : public std::out_of_range {
 public:
  using std::out_of_range::out_of_range;
};

class CheckedSpan {
 public:
  CheckedSpan() = default;
  CheckedSpan(const void* data, std::size_t size) noexcept : data_(static_cast<const std::byte*>(data)), size_(size) {}

  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

  CheckedSpan sub(std::uint64_t offset, std::uint64_t length) const {
    check(offset, length);
    return {data_ + offset, static_cast<std::size_t>(length)};
  }

  /// A copy of the `T` at `offset`; the bytes need no alignment.
  template <typename T>
  T read(std::uint64_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    check(offset, sizeof(T));
    T value;
    std::memcpy(&value, data_ + offset, sizeof(T));
    return value;
  }

  /// `count` consecutive `T`s starting at `offset`; throws if they are misaligned.
  template <typename T>
  std::span<const T> array(std::uint64_t offset, std::uint64_t count) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (count > std::numeric_limits<std::uint64_t>::max() / sizeof(T)) throw OutOfBounds("table too large");
    check(offset, count * sizeof(T));
    const std::byte* first = data_ + offset;
    if (reinterpret_cast<std::uintptr_t>(first) % alignof(T) != 0) throw OutOfBounds("misaligned table");
    return {reinterpret_cast<const T*>(first), static_cast<std::size_t>(count)};
  }

  /// The NUL-terminated string at `offset`; throws if the view ends before its NUL.
  std::string_view c_string(std::uint64_t offset) const {
    check(offset, 1);
    const char* first = reinterpret_cast<const char*>(data_) + offset;
    const void* end = std::memchr(first, 0, size_ - static_cast<std::size_t>(offset));
    if (end == nullptr) throw OutOfBounds("unterminated string");
    return {first, static_cast<std::size_t>(static_cast<const char*>(end) - first)};
  }

 private:
  void check(std::uint64_t offset, std::uint64_t length) const {
    if (offset > size_ || length > size_ - offset) throw OutOfBounds("offset outside the file");
  }

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace multipy
