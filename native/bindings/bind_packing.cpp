// Documents of multipy_actors/packing.py: MessagePack, written from Python's own types and read into them.
//
// packing.py decides what a value becomes, and this writes and reads it. It is here, and not taken from a package,
// because a package would be imported in every interpreter before its first call, which takes as long as half of the
// start of a whole Python.
//
// Only None, bool, int, float, str, bytes, list and dict are written as they are, and these exactly: everything else,
// their subclasses and integers of more than 64 bits included, goes through a function of packing.py. That may run
// any code, so containers are held while they are written, and found to have changed if they do.
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/message_pack.h"
#include "bindings/bind.h"

namespace multipy::bindings {

namespace {

/// MessagePack's own word for what it has no type for: a number, and bytes that mean something to who knows the number.
struct Extension {
  int code;
  nb::bytes data;
};
PyTypeObject* extension_type = nullptr;  // set once, when the module is made

[[noreturn]] void raise(PyObject* type, const char* message) {
  PyErr_SetString(type, message);
  throw nb::python_error();
}

/// Ends a recursion that would overflow the stack with a RecursionError.
class Deeper {
 public:
  explicit Deeper(const char* doing) {
    if (Py_EnterRecursiveCall(doing) != 0) throw nb::python_error();
  }
  ~Deeper() { Py_LeaveRecursiveCall(); }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
};

class Writer {
 public:
  Writer(nb::handle convert, nb::handle context) : convert_(convert), context_(context) {}

  void write(PyObject* value) {
    if (!write_plain(value)) write_converted(value);
  }
  nb::bytes take() const { return nb::bytes(output_.text().data(), output_.text().size()); }

 private:
  /// False if it is neither plain nor an Extension.
  bool write_plain(PyObject* value) {
    const PyTypeObject* const type = Py_TYPE(value);
    if (value == Py_None) {
      output_.none();
    } else if (type == &PyBool_Type) {
      output_.boolean(value == Py_True);
    } else if (type == &PyLong_Type) {
      return write_integer(value);
    } else if (type == &PyFloat_Type) {
      output_.real(PyFloat_AS_DOUBLE(value));
    } else if (type == &PyUnicode_Type) {
      write_text(value);
    } else if (type == &PyBytes_Type) {
      output_.bytes({PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value))});
    } else if (type == &PyList_Type) {
      write_list(value);
    } else if (type == &PyDict_Type) {
      write_dict(value);
    } else if (type == extension_type) {
      const auto& extension = *nb::inst_ptr<Extension>(value);
      output_.extension(extension.code, {extension.data.c_str(), extension.data.size()});
    } else {
      return false;
    }
    return true;
  }

  void write_converted(PyObject* value) {
    PyObject* const arguments[] = {value, context_.ptr()};
    const auto converted = nb::steal(PyObject_Vectorcall(convert_.ptr(), arguments, 2, nullptr));
    if (!converted.is_valid()) throw nb::python_error();
    if (!write_plain(converted.ptr())) raise(PyExc_TypeError, "what a value was converted to is not plain");
  }

  bool write_integer(PyObject* value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow < 0) return false;
    if (overflow == 0) {
      output_.integer(number);
      return true;
    }
    const unsigned long long large = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      return false;
    }
    output_.unsigned_integer(large);
    return true;
  }

  void write_text(PyObject* value) {
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) throw nb::python_error();
    output_.text({text, static_cast<std::size_t>(size)});
  }

  void write_list(PyObject* list) {
    const Deeper deeper(" while packing a list");
    const auto held = nb::borrow(list);
    const Py_ssize_t count = PyList_GET_SIZE(list);
    output_.list(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (i >= PyList_GET_SIZE(list)) break;
      write(nb::borrow(PyList_GET_ITEM(list, i)).ptr());
    }
    if (PyList_GET_SIZE(list) != count) raise(PyExc_RuntimeError, "a list changed while it was packed");
  }

  void write_dict(PyObject* dict) {
    const Deeper deeper(" while packing a dict");
    const auto held = nb::borrow(dict);
    const Py_ssize_t count = PyDict_GET_SIZE(dict);
    output_.dict(static_cast<std::size_t>(count));
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t place = 0, written = 0;
    for (; PyDict_Next(dict, &place, &key, &value); ++written) {
      const auto held_key = nb::borrow(key), held_value = nb::borrow(value);
      write(key);
      write(value);
    }
    if (written != count || PyDict_GET_SIZE(dict) != count)
      raise(PyExc_RuntimeError, "a dict changed while it was packed");
  }

  const nb::handle convert_, context_;
  message_pack::Output output_;
};

class Reader {
 public:
  Reader(std::string_view text, nb::handle read_extension, nb::handle read_list)
      : input_(text), read_extension_(read_extension), read_list_(read_list) {}

  nb::object read_all() {
    nb::object value = read();
    if (!input_.empty()) input_.malformed();
    return value;
  }

 private:
  static nb::object made(PyObject* object) {
    if (object == nullptr) throw nb::python_error();
    return nb::steal(object);
  }

  nb::object read() {
    using message_pack::Kind;
    const message_pack::Head head = input_.head();
    switch (head.kind) {
      case Kind::none:
        return nb::none();
      case Kind::boolean:
        return nb::borrow(head.number != 0 ? Py_True : Py_False);
      case Kind::integer:
        return made(PyLong_FromLongLong(head.integer()));
      case Kind::unsigned_integer:
        return made(PyLong_FromUnsignedLongLong(head.number));
      case Kind::real:
        return made(PyFloat_FromDouble(head.real()));
      case Kind::text: {
        const auto text = input_.bytes(head.number);
        return made(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
      }
      case Kind::bytes:
        return read_bytes(head.number);
      case Kind::list:
        return read_list(head.number);
      case Kind::dict:
        return read_dict(head.number);
      case Kind::extension:
        return read_extension(head.number);
    }
    input_.malformed();
  }

  nb::object read_bytes(std::uint64_t count) {
    const auto contents = input_.bytes(count);
    return made(PyBytes_FromStringAndSize(contents.data(), static_cast<Py_ssize_t>(contents.size())));
  }

  nb::object read_extension(std::uint64_t count) {
    const auto code = made(PyLong_FromLong(static_cast<std::int8_t>(input_.bytes(1)[0])));
    const auto contents = read_bytes(count);
    PyObject* const arguments[] = {code.ptr(), contents.ptr()};
    return made(PyObject_Vectorcall(read_extension_.ptr(), arguments, 2, nullptr));
  }

  nb::object read_list(std::uint64_t count) {
    const Deeper deeper(" while unpacking a list");
    auto list = made(PyList_New(static_cast<Py_ssize_t>(count)));
    for (std::uint64_t i = 0; i < count; ++i)
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), read().release().ptr());
    if (read_list_.is_none()) return list;
    PyObject* const arguments[] = {list.ptr()};
    return made(PyObject_Vectorcall(read_list_.ptr(), arguments, 1, nullptr));
  }

  nb::object read_dict(std::uint64_t count) {
    const Deeper deeper(" while unpacking a dict");
    auto dict = made(PyDict_New());
    for (std::uint64_t i = 0; i < count; ++i) {
      PyObject* key = read().release().ptr();
      // The names of keyword arguments and attributes are compared by address first.
      if (PyUnicode_CheckExact(key)) PyUnicode_InternInPlace(&key);
      const auto held_key = nb::steal(key);
      const auto value = read();
      if (PyDict_SetItem(dict.ptr(), key, value.ptr()) != 0) throw nb::python_error();
    }
    return dict;
  }

  message_pack::Input input_;
  const nb::handle read_extension_, read_list_;
};

}  // namespace

void bind_packing(nb::module_& module) {
  nb::class_<Extension>(module, "Extension", "What MessagePack calls an extension type: a number and bytes.")
      .def(
          "__init__", [](Extension* self, int code, nb::bytes data) { new (self) Extension{code, std::move(data)}; },
          nb::arg("code"), nb::arg("data"));
  extension_type = reinterpret_cast<PyTypeObject*>(nb::type<Extension>().ptr());
  module.def(
      "pack",
      [](nb::handle value, nb::handle convert, nb::handle context) {
        Writer writer(convert, context);
        writer.write(value.ptr());
        return writer.take();
      },
      nb::arg("value").none(), nb::arg("convert"), nb::arg("context").none(),
      nb::sig("def pack(value: object, convert: collections.abc.Callable[[typing.Any, typing.Any], object], context: "
              "object) "
              "-> bytes"),
      "Write `value`. What is not plain, `convert(part, context)` makes plain, or an Extension.");
  module.def(
      "unpack",
      [](nb::bytes data, nb::handle read_extension, nb::handle read_list) {
        return Reader({data.c_str(), data.size()}, read_extension, read_list).read_all();
      },
      nb::arg("data"), nb::arg("read_extension"), nb::arg("read_list").none(),
      nb::sig("def unpack(data: bytes, read_extension: collections.abc.Callable[[int, bytes], object], read_list: "
              "collections.abc.Callable[[list[typing.Any]], object] | None) -> typing.Any"),
      "Read a document. `read_extension(code, data)` makes what stands for an Extension; with `read_list`, lists are "
      "what that returns for them.");
}

}  // namespace multipy::bindings
