// Importing a module, whatever code runs at the moment.
#pragma once

#include <Python.h>

namespace multipy::bindings {

/// A new reference; null with an exception set. PyImport_ImportModule would call the `__import__` among the builtins of
/// the frame that runs, and code of a torch package has one of its own there, which knows that package alone.
inline PyObject* import_module(const char* name) {
  PyObject* wanted = Py_BuildValue("(s)", "__name__");  // of the module itself, not of its outermost package
  PyObject* module = wanted == nullptr ? nullptr : PyImport_ImportModuleLevel(name, nullptr, nullptr, wanted, 0);
  Py_XDECREF(wanted);
  return module;
}

}  // namespace multipy::bindings
