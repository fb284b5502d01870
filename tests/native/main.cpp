// The C++ tests of libmultipy_core: no Python, no interpreter, no sleeping. A test that needs another thread to
// have got somewhere asks for it (Dispatcher::idle) or repeats; one that hangs is ended by ctest's time limit.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// Namespaces live for ever by design, as the images in them do, and nobody refers to one whose interpreter never ran.
extern "C" __attribute__((visibility("default"), used)) const char* __lsan_default_suppressions() {
  return "leak:multipy::elf::Namespace::create\n";
}
