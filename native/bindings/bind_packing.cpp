// Documents of multipy_actors/wire/messagepack.py: MessagePack, written from Python's own types and read into them.
//
// wire/messagepack.py decides what a value becomes, and this writes and reads it. It is here, and not taken from a
// package, because a package would be imported in every interpreter before its first call, which takes as long as half
// of the start of a whole Python.
//
// Only None, bool, int, float, str, bytes, list and dict are written as they are, and these exactly, and tuples, sets
// and dates as their marks and extensions: everything else, their subclasses and integers of more than 64 bits
// included, goes through the function that wire/messagepack.py has for its type. That may run any code, so containers
// are held while they are written, and found to have changed if they do. A value is looked through before any of it is
// written, so that nothing has been exported of one that cannot be.
//
// What is read calls Python where an extension stands for something: for each by itself, and for a list that begins
// with a mark, which is an extension too, once for all of it.
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/message_pack.h"
#include "bindings/bind.h"
#include "bindings/packed_dates.h"

namespace multipy::bindings {

namespace {

/// MessagePack's own word for what it has no type for: a number, and bytes that mean something to who knows the number.
struct Extension {
  int code;
  nb::bytes data;
};
PyTypeObject* extension_type = nullptr;  // set once, when the module is made

/// The marks of wire/messagepack.py that are written and read here.
enum Mark : std::uint8_t { kTuple = 1, kSet, kFrozenset };

[[noreturn]] void raise(PyObject* type, const char* message) {
  PyErr_SetString(type, message);
  throw nb::python_error();
}

nb::object made(PyObject* object) {
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

/// What `dict` has for `key`, borrowed, or nullptr.
PyObject* found(const nb::dict& dict, PyObject* key) {
  PyObject* const value = PyDict_GetItemWithError(dict.ptr(), key);
  if (value == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

/// The function that writes values of the type of `value`: what `writers`, which may learn new types, has for it.
nb::object writer_for(const nb::dict& writers, PyObject* value) {
  PyObject* const writer = PyObject_GetItem(writers.ptr(), reinterpret_cast<PyObject*>(Py_TYPE(value)));
  if (writer != nullptr) return nb::steal(writer);
  if (PyErr_ExceptionMatches(PyExc_KeyError) == 0) throw nb::python_error();
  PyErr_Clear();
  return {};
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

/// Looks through a value that is to be written.
class Scan {
 public:
  Scan(const nb::dict& writers, std::size_t large) : writers_(writers), large_(large) {}

  /// False if something in it is of a type that nothing writes, or it is nested too deeply or too often.
  bool fits(PyObject* value) { return fits(value, kMostDepth); }
  /// Whether it holds anything but plain types.
  bool is_tagged() const { return is_tagged_; }

 private:
  static constexpr int kMostDepth = 150;          // of containers
  static constexpr std::size_t kManyShared = 64;  // containers that others may refer to as well

  bool fits(PyObject* value, int depth) {
    const PyTypeObject* const type = Py_TYPE(value);
    if (value == Py_None || type == &PyBool_Type || type == &PyLong_Type || type == &PyFloat_Type ||
        type == &PyUnicode_Type)
      return true;
    if (type == &PyBytes_Type) {
      is_tagged_ |= static_cast<std::size_t>(PyBytes_GET_SIZE(value)) >= large_;
      return true;
    }
    if (type == &PyList_Type) return is_met_once(value) && depth > 0 && items_fit(value, depth - 1);
    if (type == &PyDict_Type) return is_met_once(value) && depth > 0 && entries_fit(value, depth - 1);
    is_tagged_ = true;
    if (type == &PyTuple_Type)
      return PyTuple_GET_SIZE(value) == 0 || (is_met_once(value) && depth > 0 && fields_fit(value, depth - 1));
    if (PyAnySet_CheckExact(value)) return is_met_once(value) && depth > 0 && members_fit(value, depth - 1);
    return writer_for(writers_, value).is_valid();
  }

  /// A value that refers to its parts more than once could have exponentially many.
  bool is_met_once(PyObject* container) {
    if (Py_REFCNT(container) <= kHeldHere) return true;
    return ++shared_count_ <= kManyShared || shared_.insert(container).second;
  }

  bool items_fit(PyObject* list, int depth) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i)
      if (!fits(nb::borrow(PyList_GET_ITEM(list, i)).ptr(), depth)) return false;
    return true;
  }

  bool fields_fit(PyObject* tuple, int depth) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i)
      if (!fits(nb::borrow(PyTuple_GET_ITEM(tuple, i)).ptr(), depth)) return false;
    return true;
  }

  bool entries_fit(PyObject* dict, int depth) {
    PyObject *key = nullptr, *value = nullptr;
    for (Py_ssize_t place = 0; PyDict_Next(dict, &place, &key, &value);) {
      const auto held_key = nb::borrow(key), held_value = nb::borrow(value);
      if (!fits(key, depth) || !fits(value, depth)) return false;
    }
    return true;
  }

  bool members_fit(PyObject* set, int depth) {
    for (const nb::handle member : nb::borrow<nb::set>(set))
      if (!fits(member.ptr(), depth)) return false;
    return true;
  }

  static constexpr Py_ssize_t kHeldHere = 2;  // by what it is in and by this

  const nb::dict& writers_;
  const std::size_t large_;
  bool is_tagged_ = false;
  std::size_t shared_count_ = 0;
  std::unordered_set<const PyObject*> shared_;
};

class Writer {
 public:
  Writer(const nb::dict& writers, nb::handle context, std::size_t large)
      : writers_(writers), context_(context), large_(large) {}

  /// Before a value, that it is tagged.
  void tag(int code) {
    output_.list(2);
    output_.extension(code, {});
  }

  void write(PyObject* value) {
    if (!write_plain(value) && !write_date(output_, value)) write_converted(value);
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
      return write_bytes({PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value))});
    } else if (type == &PyList_Type) {
      write_list(value);
    } else if (type == &PyDict_Type) {
      write_dict(value);
    } else if (type == &PyTuple_Type) {
      write_tuple(value);
    } else if (PyAnySet_CheckExact(value)) {
      write_set(value);
    } else if (type == extension_type) {
      const auto& extension = *nb::inst_ptr<Extension>(value);
      output_.extension(extension.code, {extension.data.c_str(), extension.data.size()});
    } else {
      return false;
    }
    return true;
  }

  void write_converted(PyObject* value) {
    const nb::object writer = writer_for(writers_, value);
    if (!writer.is_valid()) raise(PyExc_TypeError, "a value has changed while it was packed");
    PyObject* const arguments[] = {value, context_.ptr()};
    const auto converted = made(PyObject_Vectorcall(writer.ptr(), arguments, 2, nullptr));
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

  bool write_bytes(std::string_view contents) {
    if (contents.size() >= large_) return false;
    output_.bytes(contents);
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

  /// The beginning of what stands for a container of `count` items.
  void begin(Mark mark, Py_ssize_t count) {
    output_.list(static_cast<std::size_t>(count) + 1);
    output_.extension(mark, {});
  }

  void write_tuple(PyObject* tuple) {
    const Deeper deeper(" while packing a tuple");
    const auto held = nb::borrow(tuple);
    begin(kTuple, PyTuple_GET_SIZE(tuple));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) write(PyTuple_GET_ITEM(tuple, i));
  }

  void write_set(PyObject* set) {
    const Deeper deeper(" while packing a set");
    const auto iterator = made(PyObject_GetIter(set));
    begin(PyFrozenSet_CheckExact(set) ? kFrozenset : kSet, PySet_GET_SIZE(set));
    while (PyObject* const item = PyIter_Next(iterator.ptr())) write(nb::steal(item).ptr());
    if (PyErr_Occurred() != nullptr) throw nb::python_error();
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

  const nb::dict& writers_;
  const nb::handle context_;
  const std::size_t large_;
  message_pack::Output output_;
};

class Reader {
 public:
  Reader(std::string_view text, nb::dict readers, nb::dict makers, nb::handle context)
      : input_(text), readers_(std::move(readers)), makers_(std::move(makers)), context_(context) {}

  nb::object read_all() {
    nb::object value = read();
    if (!input_.empty()) input_.malformed();
    return value;
  }

 private:
  nb::object read() { return read(input_.head()); }

  nb::object read(const message_pack::Head& head) {
    using message_pack::Kind;
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

  int read_code() { return static_cast<std::int8_t>(input_.bytes(1)[0]); }

  nb::object read_extension(std::uint64_t count) { return read_extension(count, read_code()); }

  nb::object read_extension(std::uint64_t count, int code) {
    if (is_date(code)) return made(read_date(code, input_.bytes(count)));
    const auto reader = nb::borrow(found(readers_, made(PyLong_FromLong(code)).ptr()));
    if (!reader.is_valid()) input_.malformed();
    const auto contents = read_bytes(count);
    return made(PyObject_CallOneArg(reader.ptr(), contents.ptr()));
  }

  nb::object read_list(std::uint64_t count) {
    const Deeper deeper(" while unpacking a list");
    if (count == 0) return made(PyList_New(0));
    const message_pack::Head first = input_.head();
    if (first.kind != message_pack::Kind::extension) return read_items(count, read(first));
    const int code = read_code();
    if (code == kTuple || code == kSet || code == kFrozenset) {
      input_.bytes(first.number);  // nothing: a mark is its number alone
      return code == kTuple ? read_tuple(count - 1) : read_set(code, count - 1);
    }
    const auto maker = nb::borrow(found(makers_, made(PyLong_FromLong(code)).ptr()));
    if (!maker.is_valid()) return read_items(count, read_extension(first.number, code));
    input_.bytes(first.number);
    const auto items = read_items(count - 1);
    PyObject* const arguments[] = {items.ptr(), context_.ptr()};
    return made(PyObject_Vectorcall(maker.ptr(), arguments, 2, nullptr));
  }

  nb::object read_tuple(std::uint64_t count) {
    auto tuple = made(PyTuple_New(static_cast<Py_ssize_t>(count)));
    for (std::uint64_t i = 0; i < count; ++i)
      PyTuple_SET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i), read().release().ptr());
    return tuple;
  }

  nb::object read_set(int code, std::uint64_t count) {
    auto set = made(code == kSet ? PySet_New(nullptr) : PyFrozenSet_New(nullptr));
    for (; count > 0; --count)
      if (PySet_Add(set.ptr(), read().ptr()) != 0) throw nb::python_error();
    return set;
  }

  /// A list of `count` items; the first may have been read already.
  nb::object read_items(std::uint64_t count, nb::object first = {}) {
    auto list = made(PyList_New(static_cast<Py_ssize_t>(count)));
    std::uint64_t next = 0;
    if (first.is_valid()) PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(next++), first.release().ptr());
    for (; next < count; ++next) PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(next), read().release().ptr());
    return list;
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
  const nb::dict readers_, makers_;
  const nb::handle context_;
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
      [](nb::handle value, const nb::dict& writers, nb::handle context, int tag, std::size_t large) -> nb::object {
        Scan scan(writers, large);
        if (!scan.fits(value.ptr())) return nb::none();
        Writer writer(writers, context, large);
        if (scan.is_tagged()) writer.tag(tag);
        writer.write(value.ptr());
        return writer.take();
      },
      nb::arg("value").none(), nb::arg("writers"), nb::arg("context").none(), nb::arg("tag"), nb::arg("large"),
      nb::sig(
          "def pack(value: object, writers: dict[type, collections.abc.Callable[[typing.Any, typing.Any], object]], "
          "context: object, tag: int, large: int) -> bytes | None"),
      "Write `value`, or return None if a type in it is missing in `writers`, or it is nested too deeply or too "
      "often.\n\n"
      "Of what is not plain, nor a tuple, set or date, nor bytes shorter than `large`, `writers[type(part)](part,\n"
      "context)` makes something plain or an Extension, and the document is `[Extension(tag, b\"\"), value]`.");
  module.def(
      "unpack",
      [](nb::bytes data, nb::dict readers, nb::dict makers, nb::handle context) {
        return Reader({data.c_str(), data.size()}, std::move(readers), std::move(makers), context).read_all();
      },
      nb::arg("data"), nb::arg("readers"), nb::arg("makers"), nb::arg("context").none(),
      nb::sig("def unpack(data: bytes, readers: dict[int, collections.abc.Callable[[bytes], object]], makers: "
              "dict[int, collections.abc.Callable[[list[typing.Any], typing.Any], object]], context: object) -> "
              "typing.Any"),
      "Read a document. An Extension is what `readers[code](data)` returns; a list that begins with one that is in\n"
      "`makers` is what `makers[code](rest, context)` returns.");
}

}  // namespace multipy::bindings
