// Values that go to Python and come back, and what programs read of them.
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <vector>

#include "support.h"

using namespace support;

namespace {

Value echo(const Value& value) { return manager().submit("probe", "same", value).get(); }
std::string type_of(const Value& value) { return manager().submit("probe", "type_of", value).get<std::string>(); }

}  // namespace

TEST_CASE("data arrives as the type that it is, and comes back equal") {
  const Value nested = Value::Dict{{"list", Value::List{1, 2.5, "three", nullptr}},
                                   {7, Value::tuple({true, Value::bytes(std::string("\0\xff", 2))})},
                                   {Value::tuple({1, 2}), Value::Dict{}}};
  for (const auto& [value, type] :
       std::vector<std::pair<Value, std::string>>{{nullptr, "NoneType"},
                                                  {true, "bool"},
                                                  {0, "int"},
                                                  {-33, "int"},
                                                  {std::numeric_limits<std::int64_t>::min(), "int"},
                                                  {std::numeric_limits<std::uint64_t>::max(), "int"},
                                                  {Value::integer("-123456789012345678901234567890"), "int"},
                                                  {0.1, "float"},
                                                  {"grüße", "str"},
                                                  {Value::bytes(std::string(100'000, 'x')), "bytes"},
                                                  {Value::List{}, "list"},
                                                  {Value::tuple({}), "tuple"},
                                                  {nested, "dict"}}) {
    CAPTURE(value);
    CHECK(type_of(value) == type);
    CHECK(echo(value) == value);
  }
  CHECK(std::isnan(echo(std::nan("")).toDouble()));
}

TEST_CASE("containers of the standard library are lists and dicts") {
  CHECK(echo(std::vector<int>{1, 2}).to<std::vector<std::int8_t>>() == std::vector<std::int8_t>{1, 2});
  CHECK(echo(std::vector<std::vector<double>>{{1}, {}}).to<std::vector<std::vector<double>>>().size() == 2);
  const std::map<std::string, int> ages{{"ann", 4}, {"bob", 5}};
  CHECK(echo(ages).to<std::map<std::string, int>>() == ages);
  CHECK(echo(ages).at("bob").to<int>() == 5);
  CHECK(echo(Value::List{Value(Value::List{1})}).at(0).at(0) == Value(1));
}

TEST_CASE("a value of another kind than asked for is an error that names both") {
  CHECK(std::string(thrown<ConversionError>([] { echo("x").toInt(); }).what()) == "not an int, but a str");
  CHECK_THROWS_AS(echo(300).to<std::int8_t>(), ConversionError);
  CHECK_THROWS_AS(echo(-1).to<std::uint64_t>(), ConversionError);
  CHECK_THROWS_AS(Value::integer("12x"), ConversionError);
  CHECK_THROWS_AS(Value::integer("18446744073709551616").toInt(), ConversionError);
  CHECK(Value::integer("18446744073709551615").to<std::uint64_t>() == std::numeric_limits<std::uint64_t>::max());
  CHECK_THROWS_AS(Value(Value::List{1}).at(1), std::out_of_range);
  CHECK_THROWS_AS(Value(Value::Dict{}).at("name"), std::out_of_range);
}

TEST_CASE("a result that C++ has no type for can be passed on, but not read") {
  const Value set = manager().submit("builtins", "set", Value::List{1, 2, 3}).get();
  CHECK(set.kind() == Value::Kind::object);
  CHECK(type_of(set) == "set");
  CHECK(manager().submit("builtins", "len", set).get<int>() == 3);
  CHECK_THROWS_AS(set.toList(), ConversionError);
  CHECK_THROWS_AS(echo(Value::List{set}), ConversionError);
}

TEST_CASE("scalars of NumPy are numbers") {
  CHECK(manager().submit("numpy", "float32", 0.5).get() == Value(0.5));
  CHECK(manager().submit("numpy", "int16", -7).get() == Value(-7));
  CHECK(manager().submit("numpy", "bool_", true).get() == Value(true));
}

TEST_CASE("values print as in Python") {
  CHECK(Value(Value::Dict{{"a", Value::tuple({1})}, {"b'", 1.0}}).repr() == R"({'a': (1,), 'b\'': 1.0})");
  CHECK(Value(Tensor::of(std::vector<float>{1, 2}, {2, 1})).repr() == "<tensor float32 (2, 1)>");
}

TEST_CASE("arrays share their memory with the program, and give it back") {
  bool released = false;
  {
    std::vector<double> memory{1, 2, 3, 4};
    const Tensor array = Tensor::around(memory.data(), DType::of<double>(), {2, 2}, [&released] {
                           released = true;
                         }).as(Tensor::Kind::array);
    const auto address = reinterpret_cast<std::int64_t>(memory.data());
    CHECK(manager().submit("probe", "address", array).get<std::int64_t>() == address);
    const Tensor transposed = manager().submit("numpy", "transpose", array).get<Tensor>();
    CHECK(transposed.data() == memory.data());
    CHECK(transposed.strides() == std::vector<std::int64_t>{1, 2});
    CHECK(transposed.elements<double>() == std::vector<double>{1, 3, 2, 4});
    CHECK_THROWS_AS(transposed.data<float>(), ConversionError);
    // What the interpreters still have of it is gone with the objects of the calls.
    for (const auto& interpreter : manager().allInstances()) interpreter.submit("gc", "collect").get();
    CHECK_FALSE(released);
  }
  for (const auto& interpreter : manager().allInstances()) interpreter.submit("gc", "collect").get();
  CHECK(released);
}

TEST_CASE("an array of Python outlives its manager") {
  Tensor array;
  {
    InterpreterManager own(1);
    array = own.submit("numpy", "arange", 5).get<Tensor>();
  }
  CHECK(array.elements<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 3, 4});
}
