// Documents of multipy_actors/packing.py: MessagePack, written from Python's own types and read into them.
//
// packing.py decides what a value becomes, and this writes and reads it. It is here, and not taken from a package,
// because a package would be imported in every interpreter before its first call, which takes as long as half of the
// start of a whole Python.
//
// Only None, bool, int, float, str, bytes, list and dict are written as they are, and these exactly: everything else,
// their subclasses and integers of more than 64 bits included, goes through a function of packing.py. That may run
// any code, so containers are held while they are written, and found to have changed if they do. What is read was
// written by an interpreter of this process; its lengths are checked all the same.
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

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
  nb::bytes take() const { return nb::bytes(text_.data(), text_.size()); }

 private:
  /// False if it is neither plain nor an Extension.
  bool write_plain(PyObject* value) {
    const PyTypeObject* const type = Py_TYPE(value);
    if (value == Py_None) {
      byte(0xc0);
    } else if (type == &PyBool_Type) {
      byte(value == Py_True ? 0xc3 : 0xc2);
    } else if (type == &PyLong_Type) {
      return write_integer(value);
    } else if (type == &PyFloat_Type) {
      head(0xcb, std::bit_cast<std::uint64_t>(PyFloat_AS_DOUBLE(value)), 8);
    } else if (type == &PyUnicode_Type) {
      write_text(value);
    } else if (type == &PyBytes_Type) {
      write_bytes({PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value))});
    } else if (type == &PyList_Type) {
      write_list(value);
    } else if (type == &PyDict_Type) {
      write_dict(value);
    } else if (type == extension_type) {
      write_extension(*nb::inst_ptr<Extension>(value));
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
    if (overflow > 0) {
      const unsigned long long large = PyLong_AsUnsignedLongLong(value);
      if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        return false;
      }
      head(0xcf, large, 8);
      return true;
    }
    const auto bits = static_cast<std::uint64_t>(number);
    if (number >= -32 && number < 128) {
      byte(static_cast<int>(number) & 0xff);
    } else if (number >= 0) {
      sized(0xcc, bits);
    } else if (number >= INT8_MIN) {
      head(0xd0, bits, 1);
    } else if (number >= INT16_MIN) {
      head(0xd1, bits, 2);
    } else if (number >= INT32_MIN) {
      head(0xd2, bits, 4);
    } else {
      head(0xd3, bits, 8);
    }
    return true;
  }

  void write_text(PyObject* value) {
    Py_ssize_t size = 0;
    const char* const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) throw nb::python_error();
    const auto count = checked(size);
    count < 32 ? byte(0xa0 | static_cast<int>(count)) : sized(0xd9, count);
    text_.append(text, count);
  }

  void write_bytes(std::string_view contents) {
    sized(0xc4, checked(static_cast<Py_ssize_t>(contents.size())));
    text_.append(contents);
  }

  void write_extension(const Extension& extension) {
    const auto count = checked(static_cast<Py_ssize_t>(extension.data.size()));
    if (count <= 16 && std::has_single_bit(count)) {
      byte(0xd4 + std::countr_zero(count));
    } else {
      sized(0xc7, count);
    }
    byte(extension.code & 0xff);
    text_.append(extension.data.c_str(), count);
  }

  void write_list(PyObject* list) {
    const Deeper deeper(" while packing a list");
    const auto held = nb::borrow(list);
    const Py_ssize_t count = PyList_GET_SIZE(list);
    checked(count) < 16 ? byte(0x90 | static_cast<int>(count)) : container(0xdc, count);
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
    checked(count) < 16 ? byte(0x80 | static_cast<int>(count)) : container(0xde, count);
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

  static std::uint64_t checked(Py_ssize_t count) {
    if (static_cast<std::uint64_t>(count) > UINT32_MAX)
      raise(PyExc_ValueError, "more than 2**32 - 1 items or bytes cannot be packed");
    return static_cast<std::uint64_t>(count);
  }

  void byte(int value) { text_.push_back(static_cast<char>(value)); }

  void head(int type, std::uint64_t value, int bytes) {
    char encoded[9] = {static_cast<char>(type)};
    for (int i = bytes; i > 0; --i, value >>= 8) encoded[i] = static_cast<char>(value & 0xff);
    text_.append(encoded, static_cast<std::size_t>(bytes) + 1);
  }

  /// With as many bytes as `value` needs; the types for 1, 2, 4 and 8 follow each other.
  void sized(int type, std::uint64_t value) {
    const int power = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
    head(type + power, value, 1 << power);
  }
  /// The same of lists and dicts, which have none for 1.
  void container(int type, Py_ssize_t count) {
    const bool small = count <= UINT16_MAX;
    head(small ? type : type + 1, static_cast<std::uint64_t>(count), small ? 2 : 4);
  }

  const nb::handle convert_, context_;
  std::string text_;
};

class Reader {
 public:
  Reader(std::string_view text, nb::handle read_extension, nb::handle read_list)
      : rest_(text), read_extension_(read_extension), read_list_(read_list) {}

  nb::object read_all() {
    nb::object value = read();
    if (!rest_.empty()) malformed();
    return value;
  }

 private:
  [[noreturn]] static void malformed() { raise(PyExc_ValueError, "not a document"); }
  static nb::object made(PyObject* object) {
    if (object == nullptr) throw nb::python_error();
    return nb::steal(object);
  }

  nb::object read() {
    const int head = static_cast<std::uint8_t>(bytes(1)[0]);
    if (head < 0x80) return made(PyLong_FromLong(head));
    if (head >= 0xe0) return made(PyLong_FromLong(head - 0x100));
    if (head < 0x90) return read_dict(head & 0x0f);
    if (head < 0xa0) return read_list(head & 0x0f);
    if (head < 0xc0) return read_text(head & 0x1f);
    switch (head) {
      case 0xc0:
        return nb::none();
      case 0xc2:
      case 0xc3:
        return nb::borrow(head == 0xc3 ? Py_True : Py_False);
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return read_bytes(number(1 << (head - 0xc4)));
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return read_extension(number(1 << (head - 0xc7)));
      case 0xca:
        return made(PyFloat_FromDouble(std::bit_cast<float>(static_cast<std::uint32_t>(number(4)))));
      case 0xcb:
        return made(PyFloat_FromDouble(std::bit_cast<double>(number(8))));
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return made(PyLong_FromUnsignedLongLong(number(1 << (head - 0xcc))));
      case 0xd0:
        return made(PyLong_FromLong(static_cast<std::int8_t>(number(1))));
      case 0xd1:
        return made(PyLong_FromLong(static_cast<std::int16_t>(number(2))));
      case 0xd2:
        return made(PyLong_FromLong(static_cast<std::int32_t>(number(4))));
      case 0xd3:
        return made(PyLong_FromLongLong(static_cast<std::int64_t>(number(8))));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return read_extension(std::uint64_t{1} << (head - 0xd4));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return read_text(number(1 << (head - 0xd9)));
      case 0xdc:
      case 0xdd:
        return read_list(number(2 << (head - 0xdc)));
      case 0xde:
      case 0xdf:
        return read_dict(number(2 << (head - 0xde)));
      default:
        malformed();
    }
  }

  std::string_view bytes(std::uint64_t count) {
    if (count > rest_.size()) malformed();
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint64_t number(int count) {
    std::uint64_t value = 0;
    for (const char byte : bytes(static_cast<std::uint64_t>(count)))
      value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }

  nb::object read_bytes(std::uint64_t count) {
    const auto contents = bytes(count);
    return made(PyBytes_FromStringAndSize(contents.data(), static_cast<Py_ssize_t>(contents.size())));
  }
  nb::object read_text(std::uint64_t count) {
    const auto text = bytes(count);
    return made(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
  }

  nb::object read_extension(std::uint64_t count) {
    const auto code = made(PyLong_FromLong(static_cast<std::int8_t>(bytes(1)[0])));
    const auto contents = read_bytes(count);
    PyObject* const arguments[] = {code.ptr(), contents.ptr()};
    return made(PyObject_Vectorcall(read_extension_.ptr(), arguments, 2, nullptr));
  }

  nb::object read_list(std::uint64_t count) {
    const Deeper deeper(" while unpacking a list");
    if (count > rest_.size()) malformed();  // each item is a byte at least
    auto list = made(PyList_New(static_cast<Py_ssize_t>(count)));
    for (std::uint64_t i = 0; i < count; ++i)
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), read().release().ptr());
    if (read_list_.is_none()) return list;
    PyObject* const arguments[] = {list.ptr()};
    return made(PyObject_Vectorcall(read_list_.ptr(), arguments, 1, nullptr));
  }

  nb::object read_dict(std::uint64_t count) {
    const Deeper deeper(" while unpacking a dict");
    if (count > rest_.size() / 2) malformed();
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

  std::string_view rest_;
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
