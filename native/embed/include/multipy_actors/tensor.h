// A tensor or array whose memory the program and interpreters use at once, without copies.
//
// It is what DLPack describes: an address, a shape, strides, a type of elements and a device, and how to give the
// memory back. Copies of a Tensor refer to the same memory. The last one to let go of it, here or in whichever
// interpreter, gives it back; that may be on any thread. With libtorch, torch.h turns these to and from at::Tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "multipy_actors/export.h"

// As DLPack's own header declares them.
struct DLManagedTensor;

namespace multipy_actors {

namespace detail {
struct TensorParts;
}

/// The type of elements, numbered as DLPack numbers them.
struct DType {
  enum Code : std::uint8_t { integer = 0, unsigned_integer = 1, real = 2, bfloat = 4, complex = 5, boolean = 6 };

  std::uint8_t code = real;
  std::uint8_t bits = 32;
  std::uint16_t lanes = 1;

  /// That of a C++ arithmetic type.
  template <typename T>
  static constexpr DType of() {
    static_assert(std::is_arithmetic_v<T>, "elements are numbers or bool");
    const auto bits = static_cast<std::uint8_t>(sizeof(T) * 8);
    if constexpr (std::is_same_v<T, bool>) return {boolean, bits, 1};
    if constexpr (std::is_floating_point_v<T>) return {real, bits, 1};
    return {std::is_signed_v<T> ? integer : unsigned_integer, bits, 1};
  }
  /// "float32", "bfloat16", "int64" …
  MULTIPY_ACTORS_API std::string name() const;

  friend bool operator==(const DType& left, const DType& right) {
    return left.code == right.code && left.bits == right.bits && left.lanes == right.lanes;
  }
  friend bool operator!=(const DType& left, const DType& right) { return !(left == right); }
};

/// Numbered as DLPack numbers them: 1 is the CPU, 2 CUDA.
struct Device {
  int type = 1;
  int index = 0;
};

class MULTIPY_ACTORS_API Tensor {
 public:
  /// What it is in Python.
  enum class Kind { tensor, parameter, array };

  /// None; only to be assigned to.
  Tensor() = default;
  /// Takes over what a library has exported; it is deleted on whatever thread lets go last.
  static Tensor adopt(DLManagedTensor* exported);
  /// Around memory of the program, which `release` gives back when nobody uses it any more. Without strides, which
  /// count elements, it is contiguous.
  static Tensor around(void* data, DType dtype, std::vector<std::int64_t> shape, std::function<void()> release,
                       std::vector<std::int64_t> strides = {}, Device device = {});
  /// Holds the elements of a vector, as one dimension or in `shape`.
  template <typename T>
  static Tensor of(std::vector<T> elements, std::vector<std::int64_t> shape = {}) {
    static_assert(!std::is_same_v<T, bool>, "std::vector<bool> has no memory to share");
    auto owned = std::make_shared<std::vector<T>>(std::move(elements));
    check_count(shape, owned->size());
    if (shape.empty()) shape.push_back(static_cast<std::int64_t>(owned->size()));
    return around(owned->data(), DType::of<T>(), std::move(shape), [owned] {});
  }

  /// A view of its own for another library, whose deleter lets go of the memory.
  DLManagedTensor* view() const;

  explicit operator bool() const noexcept { return parts_ != nullptr; }
  /// The first element's address, on its device.
  void* data() const;
  /// The same, after a look that the elements are of type T and lie in the CPU's memory.
  template <typename T>
  T* data() const {
    check_elements(DType::of<std::remove_const_t<T>>());
    if constexpr (!std::is_const_v<T>) check_writable();
    return static_cast<T*>(data());
  }
  /// The elements in their order, whatever the strides.
  template <typename T>
  std::vector<T> elements() const {
    const T* first = data<const T>();
    std::vector<T> out;
    out.reserve(static_cast<std::size_t>(size()));
    for (const std::int64_t offset : offsets()) out.push_back(first[offset]);
    return out;
  }

  DType dtype() const;
  /// The type's name in Python; for types that DLPack does not know, `dtype()` is that of the bytes.
  std::string dtypeName() const;
  Device device() const;
  std::vector<std::int64_t> shape() const;
  /// In elements.
  std::vector<std::int64_t> strides() const;
  /// The number of elements.
  std::int64_t size() const;
  bool readOnly() const;

  Kind kind() const;
  bool requiresGrad() const;
  /// The same memory, as something else in Python: a NumPy array, say.
  Tensor as(Kind kind, bool requires_grad = false) const;
  /// The same memory, named as being of a type that DLPack has no name for ("float8_e5m2"); of bytes otherwise.
  Tensor named(std::string dtype) const;

 private:
  friend struct detail::TensorParts;

  static void check_count(const std::vector<std::int64_t>& shape, std::size_t count);
  const detail::TensorParts& parts() const;
  void check_elements(DType asked) const;
  void check_writable() const;
  std::vector<std::int64_t> offsets() const;

  std::shared_ptr<const detail::TensorParts> parts_;
};

}  // namespace multipy_actors
