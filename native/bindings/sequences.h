// How arguments that are sequences are read.
//
// nanobind converts arguments in functions that may not throw: where there is no memory for a std::vector or a
// std::string, the process would end. So a sequence is only kept until the bound function is called, and read then,
// when std::bad_alloc becomes MemoryError. For the same reason bound functions take single texts as nb::str.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

namespace multipy::bindings {

/// The text as UTF-8. Throws what Python raises.
inline std::string text_of(nanobind::handle text) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (bytes == nullptr) throw nanobind::python_error();
  return {bytes, static_cast<std::size_t>(size)};
}

}  // namespace multipy::bindings

namespace nanobind::detail {

template <typename Entry>
struct type_caster<std::vector<Entry>> {
  using Vector = std::vector<Entry>;
  using Caster = make_caster<Entry>;

  static constexpr auto Name =
      io_name("collections.abc.Sequence", "list") + const_name("[") + Caster::Name + const_name("]");
  template <typename>
  using Cast = Vector;
  template <typename>
  static constexpr bool can_cast() {
    return true;
  }

  bool from_python(handle source, std::uint32_t, cleanup_list*) noexcept {
    source_ = source;
    return PySequence_Check(source.ptr()) != 0 && !PyUnicode_Check(source.ptr()) && !PyBytes_Check(source.ptr());
  }

  explicit operator Vector() const {
    const object items = steal(PySequence_Fast(source_.ptr(), "a sequence was expected"));
    if (!items.is_valid()) throw python_error();
    const auto size = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
    Vector out;
    out.reserve(size);
    for (std::size_t i = 0; i < size; ++i) {
      const handle item = PySequence_Fast_GET_ITEM(items.ptr(), static_cast<Py_ssize_t>(i));
      if constexpr (std::is_same_v<Entry, std::string>) {
        out.push_back(multipy::bindings::text_of(item));
      } else {
        Caster caster;
        if (!caster.from_python(item, 0, nullptr) || !caster.template can_cast<Entry>())
          throw type_error("an item of the sequence is of another type");
        out.push_back(caster.operator cast_t<Entry>());
      }
    }
    return out;
  }

  template <typename T>
  static handle from_cpp(T&& source, rv_policy policy, cleanup_list* cleanup) noexcept {
    return list_caster<Vector, Entry>::from_cpp(std::forward<T>(source), policy, cleanup);
  }

 private:
  handle source_;
};

}  // namespace nanobind::detail
