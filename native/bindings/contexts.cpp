#include "bindings/contexts.h"

#include <nanobind/nanobind.h>

#include <new>
#include <unordered_map>
#include <utility>

namespace multipy::bindings {

namespace {

/// Each has a reference. They live as long as Python.
std::unordered_map<std::int64_t, PyObject*>& contexts() noexcept {
  static auto& instance = *new std::unordered_map<std::int64_t, PyObject*>;
  return instance;
}

thread_local PyObject* entered = nullptr;

/// The context of `actor`, made if need be; null: Python has raised.
PyObject* context_of(std::int64_t actor) noexcept {
  const auto found = contexts().find(actor);
  if (found != contexts().end()) return found->second;
  PyObject* const made = PyContext_Copy(contexts().at(0));
  if (made == nullptr) return nullptr;
  try {
    contexts().emplace(actor, made);
    return made;
  } catch (const std::bad_alloc&) {
    Py_DECREF(made);
    return PyErr_NoMemory();
  }
}

}  // namespace

void begin_contexts() {
  PyObject* const here = PyContext_CopyCurrent();
  if (here == nullptr) throw nanobind::python_error();
  contexts().emplace(0, here);
}

bool enter_context_of(std::int64_t actor) noexcept {
  if (PyObject* const before = std::exchange(entered, nullptr)) {
    PyContext_Exit(before);
    Py_DECREF(before);
  }
  if (actor == kNobody) return true;
  PyObject* context = context_of(actor);
  if (context == nullptr) return false;
  Py_INCREF(context);
  if (PyContext_Enter(context) != 0) {
    // It is in force on another thread.
    PyErr_Clear();
    PyObject* const copy = PyContext_Copy(context);
    Py_DECREF(context);
    if (copy == nullptr) return false;
    context = copy;
    if (PyContext_Enter(context) != 0) {
      Py_DECREF(context);
      return false;
    }
  }
  entered = context;
  return true;
}

bool has_context(std::int64_t actor) noexcept { return contexts().contains(actor); }

void forget_context(std::int64_t actor) noexcept {
  const auto found = contexts().find(actor);
  if (found == contexts().end()) return;
  PyObject* const context = found->second;
  contexts().erase(found);
  Py_DECREF(context);  // which may run code that comes here
}

}  // namespace multipy::bindings
