// Who has written to shared memory, as far as looking before and after can tell.
#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "exchange/write_log.h"

using multipy::SharedTensor;
using multipy::WriteLog;

namespace {

/// Numbers, and tensors of them.
struct Numbers {
  std::array<std::int32_t, 12> items{};
  std::array<std::int64_t, 2> shape{3, 4};
  std::array<std::int64_t, 2> strides{4, 1};

  std::shared_ptr<SharedTensor> share() {
    auto* managed = new DLManagedTensor{};
    managed->dl_tensor.data = items.data();
    managed->dl_tensor.device = {kDLCPU, 0};
    managed->dl_tensor.ndim = 2;
    managed->dl_tensor.dtype = {kDLInt, 32, 1};
    managed->dl_tensor.shape = shape.data();
    managed->dl_tensor.strides = strides.data();
    managed->deleter = [](DLManagedTensor* self) { delete self; };
    return SharedTensor::adopt(managed, nullptr);
  }
};

}  // namespace

TEST_CASE("a digest tells contents apart, and sees no more than the tensor shows") {
  Numbers numbers;
  std::iota(numbers.items.begin(), numbers.items.end(), 0);
  const auto whole = numbers.share();
  const auto before = digest(*whole);
  numbers.items[7] = 70;
  CHECK(digest(*whole) != before);
  numbers.items[7] = 7;
  CHECK(digest(*whole) == before);

  numbers.shape = {3, 2};
  numbers.strides = {4, 2};
  const auto part = numbers.share();
  const auto of_part = digest(*part);
  numbers.items[1] = 10;
  CHECK(digest(*part) == of_part);
  numbers.items[2] = 20;
  CHECK(digest(*part) != of_part);

  numbers.strides = {0, 1};
  const auto expanded = numbers.share();
  CHECK(digest(*expanded).has_value());
}

TEST_CASE("a change is found once, with those who wrote before") {
  WriteLog log;
  Numbers numbers;
  const auto tensor = numbers.share();
  log.join(tensor, 0, "given to f");
  CHECK(log.look(0, "f").empty());
  numbers.items[0] = 1;
  const auto first = log.look(0, "f");
  REQUIRE(first.size() == 1);
  CHECK(first[0].memory == "given to f");
  CHECK(first[0].nbytes == 48);
  CHECK(first[0].writers.empty());
  CHECK(log.look(0, "f").empty());

  log.join(numbers.share(), 1, "given to g");
  CHECK(log.look(1, "g").empty());
  numbers.items[0] = 2;
  const auto second = log.look(1, "g");
  REQUIRE(second.size() == 1);
  CHECK(second[0].writers == std::vector<std::string>{"f"});
  numbers.items[0] = 3;
  CHECK(log.look(0, "f").empty());  // told already
}

TEST_CASE("memory that an interpreter has not met is none of its business, and is forgotten when nobody has it") {
  WriteLog log;
  Numbers numbers;
  auto tensor = numbers.share();
  log.join(tensor, 0, "given to f");
  numbers.items[0] = 1;
  CHECK(log.look(1, "g").empty());
  tensor.reset();
  CHECK(log.look(0, "f").empty());
  tensor = numbers.share();
  log.join(tensor, 0, "given to h");
  numbers.items[0] = 2;
  const auto found = log.look(0, "h");
  REQUIRE(found.size() == 1);
  CHECK(found[0].memory == "given to h");
}
