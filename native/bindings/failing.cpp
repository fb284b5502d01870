#include "bindings/failing.h"

#include <new>
#include <string>

#include "task/call.h"
#include "task/failure.h"

namespace multipy::bindings {

namespace {

constexpr int kLeastRecursion = 200;  // to decode a request and to encode an exception

std::string text_of(PyObject* object) {
  Py_ssize_t size = 0;
  const char* text = object == nullptr || !PyUnicode_Check(object) ? nullptr : PyUnicode_AsUTF8AndSize(object, &size);
  if (text == nullptr) {
    PyErr_Clear();  // a lone surrogate, say
    return {};
  }
  return {text, static_cast<std::size_t>(size)};
}

std::string attribute_of(PyTypeObject* type, const char* name) {
  PyObject* value = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name);
  std::string text = text_of(value);
  Py_XDECREF(value);
  PyErr_Clear();
  return text;
}

std::string type_name(PyTypeObject* type) {
  std::string name = attribute_of(type, "__qualname__");
  if (name.empty()) name = type->tp_name;
  const std::string module = attribute_of(type, "__module__");
  return module.empty() || module == "builtins" ? name : module + "." + name;
}

/// The message, if it is the only argument.
std::string message_of(PyObject* error) {
  if (!PyExceptionInstance_Check(error)) return {};
  PyObject* const args = reinterpret_cast<PyBaseExceptionObject*>(error)->args;
  return args != nullptr && PyTuple_Check(args) && PyTuple_GET_SIZE(args) == 1 ? text_of(PyTuple_GET_ITEM(args, 0))
                                                                               : std::string();
}

}  // namespace

bool fail_plainly(Call& call, PyObject* error) noexcept {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  Payload payload;  // if there is no memory for more, it says nothing
  try {
    const std::string name = type_name(Py_TYPE(error));
    payload = failure(name, message_of(error));
  } catch (const std::bad_alloc&) {
  }
  PyErr_Restore(type, value, traceback);
  return call.abandon(std::move(payload));
}

bool keep_recursion_limit() noexcept {
  if (Py_GetRecursionLimit() >= kLeastRecursion) return false;
  Py_SetRecursionLimit(kLeastRecursion);
  return true;
}

void drop_late_exception() noexcept {
  PyThreadState* const thread = PyThreadState_Get();
  if (thread->async_exc != nullptr) PyThreadState_SetAsyncExc(thread->thread_id, nullptr);
}

}  // namespace multipy::bindings
