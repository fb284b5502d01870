// The core's errors as multipy_actors.errors has them.
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/import.h"
#include "elf/namespace.h"

namespace multipy::bindings {

namespace {

nb::object error_class(const char* name) {
  const nb::object errors = nb::steal(import_module("multipy_actors.errors"));
  if (!errors.is_valid()) throw nb::python_error();
  return errors.attr(name);
}

void raise(const char* name, const std::exception& error) { PyErr_SetString(error_class(name).ptr(), error.what()); }

void raise_image_error(const ImageError& error) {
  const nb::object type = error_class("ImageError");
  const nb::object value = type(error.what(), nb::arg("file") = error.file(), nb::arg("symbol") = error.symbol());
  PyErr_SetObject(type.ptr(), value.ptr());
}

}  // namespace

void bind_errors(nb::module_& module) {
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const ImageError& error) {
      raise_image_error(error);
    } catch (const StartError& error) {
      raise("InterpreterStartError", error);
    } catch (const ClosedError& error) {
      raise("PoolClosedError", error);
    } catch (const DeadlockError& error) {
      raise("DeadlockError", error);
    } catch (const FullError& error) {
      raise("MailboxFullError", error);
    } catch (const Error& error) {
      raise("MultipyError", error);
    }
  });
  module.def(
      "take_load_failure",
      [](const nb::bytes& text) -> nb::object {
        elf::LoadFailure failure;
        if (!elf::take_failure({text.c_str(), text.size()}, failure)) return nb::none();
        return nb::make_tuple(nb::bytes(failure.file.data(), failure.file.size()),
                              nb::bytes(failure.symbol.data(), failure.symbol.size()));
      },
      nb::arg("text"), nb::sig("def take_load_failure(text: bytes) -> tuple[bytes, bytes] | None"),
      "The file and symbol of the library that last failed to load on this thread, if it failed with `text`.\n\n"
      "All are in the file system encoding.");
}

}  // namespace multipy::bindings
