// What Python code cannot change of a class.
#include <utility>

#include "bindings/bind.h"

namespace multipy::bindings {

namespace {

/// The old order is let go of last: this may end what it alone kept.
void set_mro(const nb::type_object& cls, nb::tuple mro) {
  auto* const type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  const nb::object before = nb::steal(std::exchange(type->tp_mro, mro.release().ptr()));
  PyType_Modified(type);
}

}  // namespace

void bind_class(nb::module_& module) {
  module.def("set_mro", &set_mro, nb::arg("cls"), nb::arg("mro"),
             nb::sig("def set_mro(cls: type, mro: tuple[type, ...]) -> None"),
             "Have attributes of `cls`, a class that is being made and has no subclasses, be looked up in this order.");
}

}  // namespace multipy::bindings
