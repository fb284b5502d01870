// A C++ program without Python that has interpreters: `host DESCRIPTION work|fail|leave ...`; prints "host ok".
//
//   work PACKAGES PRELOADED   uses the standard library and the packages in two interpreters at once, then closes
//   fail                      what raises, in an interpreter or in the core, arrives as an exception
//   leave HOW                 ends without closing while interpreters are idle, starting, or run guest.py's HOW
//
// PACKAGES is a comma-separated list; PRELOADED is part of the name of a library that must be in the process.
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <sstream>

#include "base/error.h"
#include "own_library.h"

namespace {

constexpr std::size_t kInterpreters = 2;

std::string memory_map() {
  std::ifstream file("/proc/self/maps");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  require(::pipe(ends.data()) == 0, "there is a pipe");
  return ends;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

/// Both run `name` and meet in it, so neither waits for the other to be done.
void at_once(Interpreters& interpreters, const std::string& name, const std::vector<document::Bytes>& first = {}) {
  const std::array<std::array<int, 2>, kInterpreters> pipes{make_pipe(), make_pipe()};
  std::vector<Interpreters::CallPtr> calls;
  for (std::size_t i = 0; i < kInterpreters; ++i) {
    auto args = first;
    args.push_back(document::number(pipes[i][1]));
    args.push_back(document::number(pipes[1 - i][0]));
    calls.push_back(interpreters.submit(i, name, args));
  }
  for (const auto& call : calls) Interpreters::value_of(*call);
  for (const auto& ends : pipes) {
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

void check_paths(Interpreters& interpreters, const multipy::InterpreterOptions& options) {
  std::vector<std::string> paths;
  for (const auto& [name, value] : options.settings) {
    if (name == "module_search_paths") paths.push_back(value);
  }
  const auto told = interpreters.call(0, "describe").items;
  require(told.size() == paths.size() + 4, "sys.path is as long as the described one");
  for (std::size_t i = 0; i < paths.size(); ++i) require(told[i + 4].text == paths[i], "sys.path has " + paths[i]);
}

void work(const multipy::InterpreterOptions& options, const std::string& packages, const std::string& preloaded) {
  require(memory_map().find("libpython") == std::string::npos, "the program has no Python");
  require(memory_map().find(preloaded) != std::string::npos, preloaded + " is preloaded");
  use_own_library();
  Interpreters interpreters(options, kInterpreters);
  interpreters.configure(options);
  check_paths(interpreters, options);
  require(interpreters.call(1, "add", {document::number(-40), document::number(82)}).integer == 42, "-40 + 82 == 42");
  require(interpreters.call(0, "add", {document::text("o"), document::text("ne")}).text == "one", "o + ne == one");
  interpreters.call(0, "say", {document::text("grüße aus Python")});
  at_once(interpreters, "meet");
  const auto address = interpreters.call(0, "python_address").integer;
  require(address != interpreters.call(1, "python_address").integer, "each interpreter has its own Python");
  for (const auto& package : split(packages)) {
    at_once(interpreters, "meet_and_use", {document::text(package)});
    if (package == "torch") compare_own_library(interpreters);
  }
  require(::dlsym(RTLD_DEFAULT, "Py_IsInitialized") == nullptr, "the program still has no Python");
  interpreters.close();
  use_own_library();
}

template <typename Error, typename Action>
Error caught(Action action, const std::string& what) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error(what + " did not throw");
}

void fail(const multipy::InterpreterOptions& options) {
  auto wrong = options;
  wrong.libpython = "/nowhere/libpython.so";
  const auto not_started =
      caught<multipy::StartError>([&] { Interpreters(wrong, 1).configure(wrong); }, "no libpython");
  require(std::string(not_started.what()).find("/nowhere/libpython.so") != std::string::npos, "StartError names it");

  Interpreters interpreters(options, kInterpreters);
  interpreters.configure(options);
  const auto call = [&](const std::string& name) {
    return caught<RemoteError>([&] { interpreters.call(0, name); }, name);
  };
  const auto error = call("fail");
  require(error.kind == "ValueError" && std::string(error.what()) == "as it was told to", "type and text arrive");
  require(error.traceback.find("KeyError: 'reason'") != std::string::npos, "the traceback tells of the cause");
  require(error.traceback.find("in fail") != std::string::npos, "the traceback tells of the function");
  require(call("call_into_nothing").kind == "ModuleNotFoundError", "what is not there is not imported");
  require(call("no_such_function").kind.ends_with("SerializationError"), "a wrong name is an error of the call");
  require(call("exit_python").kind == "SystemExit", "sys.exit ends a call and nothing else");
  require(interpreters.call(0, "add", {document::number(1), document::number(1)}).integer == 2, "the next one works");

  interpreters.close();
  caught<multipy::ClosedError>([&] { interpreters.submit(0, "meet"); }, "a call after close");
}

void leave(const multipy::InterpreterOptions& options, const std::string& how) {
  // Owned by nobody: destructors at the program's end must not be what closes it.
  auto& interpreters = *new Interpreters(options, kInterpreters);
  if (how == "starting") return;
  interpreters.configure(options);
  if (how == "idle") return;
  const auto arrivals = make_pipe();
  for (std::size_t i = 0; i < kInterpreters; ++i) interpreters.submit(i, how, {document::number(arrivals[1])});
  for (std::size_t i = 0; i < kInterpreters; ++i) {
    char byte;
    require(::read(arrivals[0], &byte, 1) == 1, "the call runs");
  }
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    const auto options = read_description(words.at(0));
    if (words.at(1) == "work") {
      work(options, words.at(2), words.at(3));
    } else if (words.at(1) == "fail") {
      fail(options);
    } else if (words.at(1) == "leave") {
      leave(options, words.at(2));
    } else {
      throw std::runtime_error("no such scenario: " + words.at(1));
    }
  } catch (const RemoteError& error) {
    std::cerr << error.traceback << error.kind << ": " << error.what() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  std::cout << "host ok" << std::endl;
  return 0;
}
