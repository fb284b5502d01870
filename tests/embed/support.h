// What the tests of libmultipy_embed share: one manager for those that need no manager of their own.
#pragma once

#include <doctest/doctest.h>
#include <multipy_actors/multipy_actors.h>

#include <cstdlib>
#include <string>

namespace support {

using namespace multipy_actors;

/// Two interpreters, which have the module `probe`; closed by main.
InterpreterManager& manager();
void close_manager();

/// The path of a file that the test's Python has made.
inline std::string data(const std::string& name) {
  const char* folder = std::getenv("MULTIPY_TEST_DATA");
  REQUIRE(folder != nullptr);
  return std::string(folder) + "/" + name;
}

/// What `action` throws; the test fails if it is nothing, or something else.
template <typename Thrown, typename Action>
Thrown thrown(const Action& action) {
  try {
    action();
  } catch (const Thrown& error) {
    return error;
  }
  FAIL("nothing was thrown");
  throw 0;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace support
