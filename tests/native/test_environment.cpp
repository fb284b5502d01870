// An interpreter's environment variables: as getenv and setenv do it, but one's own, and safe on several threads.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "elf/environment.h"

using multipy::elf::Environment;

namespace {

std::vector<std::string> entries(const Environment& environment) {
  std::vector<std::string> out;
  for (char** at = environment.array(); at != nullptr && *at != nullptr; ++at) out.emplace_back(*at);
  return out;
}

std::string value_of(const Environment& environment, const char* name) {
  const char* value = environment.get(name);
  return value == nullptr ? "(none)" : value;
}

struct Fixture {
  std::array<char, 6> first{"A=one"};
  std::array<char, 6> second{"B=two"};
  std::array<char*, 3> source{first.data(), second.data(), nullptr};
  Environment environment{source.data()};
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "it starts as a copy of its source") {
  CHECK(entries(environment) == std::vector<std::string>{"A=one", "B=two"});
  first[2] = 'X';
  CHECK(value_of(environment, "A") == "one");
  CHECK(value_of(environment, "B") == "two");
  CHECK(value_of(environment, "") == "(none)");
  CHECK(value_of(environment, "A=one") == "(none)");
}

TEST_CASE("it may start empty") {
  Environment environment(nullptr);
  CHECK(entries(environment).empty());
  CHECK(environment.get("A") == nullptr);
  CHECK(environment.unset("A") == 0);
  CHECK(environment.set("A", "1", false) == 0);
  CHECK(entries(environment) == std::vector<std::string>{"A=1"});
}

TEST_CASE_FIXTURE(Fixture, "a variable is added, replaced only if asked, and removed") {
  CHECK(environment.set("C", "three", false) == 0);
  CHECK(environment.set("A", "ignored", false) == 0);
  CHECK(environment.set("B", "2", true) == 0);
  CHECK(entries(environment) == std::vector<std::string>{"A=one", "B=2", "C=three"});
  CHECK(environment.unset("B") == 0);
  CHECK(environment.unset("absent") == 0);
  CHECK(entries(environment) == std::vector<std::string>{"A=one", "C=three"});
  CHECK(environment.set("empty", "", true) == 0);
  CHECK(value_of(environment, "empty").empty());
}

TEST_CASE_FIXTURE(Fixture, "a name that is a prefix of another is another") {
  environment.set("AB", "long", true);
  CHECK(value_of(environment, "A") == "one");
  environment.unset("A");
  CHECK(value_of(environment, "A") == "(none)");
  CHECK(value_of(environment, "AB") == "long");
}

TEST_CASE_FIXTURE(Fixture, "names that cannot be are refused as setenv refuses them") {
  for (const char* name : {"", "a=b", "="}) {
    errno = 0;
    CHECK(environment.set(name, "x", true) == -1);
    CHECK(errno == EINVAL);
    errno = 0;
    CHECK(environment.unset(name) == -1);
    CHECK(errno == EINVAL);
  }
  CHECK(entries(environment).size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "putenv makes the caller's string the entry, and without a value removes") {
  std::array<char, 6> entry{"C=put"};
  CHECK(environment.put(entry.data()) == 0);
  entry[2] = 'P';
  CHECK(value_of(environment, "C") == "Put");
  std::array<char, 2> name{"A"};
  CHECK(environment.put(name.data()) == 0);
  CHECK(value_of(environment, "A") == "(none)");
}

TEST_CASE_FIXTURE(Fixture, "cleared, it is empty and can be filled again") {
  environment.clear();
  CHECK(environment.get("A") == nullptr);
  CHECK(entries(environment).empty());
  environment.set("A", "again", true);
  CHECK(entries(environment) == std::vector<std::string>{"A=again"});
}

TEST_CASE_FIXTURE(Fixture, "an array put in place through the variable itself is taken over") {
  std::array<char, 4> entry{"D=4"};
  std::array<char*, 2> own{entry.data(), nullptr};
  *environment.variable() = own.data();
  CHECK(value_of(environment, "D") == "4");
  CHECK(value_of(environment, "A") == "(none)");
  environment.set("E", "5", true);
  CHECK(entries(environment) == std::vector<std::string>{"D=4", "E=5"});
  CHECK(own[1] == nullptr);  // the owner's array is not written to
}

TEST_CASE_FIXTURE(Fixture, "what was handed out stays readable") {
  const char* before = environment.get("A");
  char** array = environment.array();
  for (int i = 0; i < 500; ++i) environment.set(("N" + std::to_string(i)).c_str(), "x", true);
  environment.set("A", "changed", true);
  CHECK(std::string(before) == "one");
  CHECK(std::string(array[1]) == "B=two");
  CHECK(entries(environment).size() == 502);
}

TEST_CASE_FIXTURE(Fixture, "threads that set, get and remove do not disturb each other") {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      const std::string name = "THREAD" + std::to_string(number);
      for (int i = 0; i < 500; ++i) {
        const std::string value = std::to_string(i);
        environment.set(name.c_str(), value.c_str(), true);
        const char* found = environment.get(name.c_str());
        if (found == nullptr || value != found) ++wrong;
        if (environment.get("A") == nullptr) ++wrong;
        if (i % 7 == 0) environment.unset(name.c_str());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(value_of(environment, "THREAD0") == "499");
}
