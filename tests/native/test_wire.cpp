// Values as bytes: what is written is read again, and bytes that are no document are refused without harm.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "big_integer.h"
#include "exchange/tensor.h"
#include "multipy_actors/value.h"
#include "wire.h"

using namespace multipy_actors;

namespace {

multipy::Payload bytes(const std::string& data) { return {data, {}}; }

Value random_value(std::mt19937& random, int depth) {
  const auto pick = [&random](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  const auto text = [&] { return std::string(static_cast<std::size_t>(pick(40)), static_cast<char>('a' + pick(26))); };
  Value::List items;
  switch (pick(depth > 4 ? 7 : 10)) {
    case 0:
      return nullptr;
    case 1:
      return pick(2) == 0;
    case 2:
      return static_cast<std::int64_t>(std::uint64_t{random()} << 32 | random());
    case 3:
      return pick(300) - 150;
    case 4:
      return static_cast<double>(pick(1000)) / 7;
    case 5:
      return text();
    case 6:
      return Value::bytes(text());
    case 7:
      for (int i = pick(5); i > 0; --i) items.push_back(random_value(random, depth + 1));
      return items;
    case 8:
      for (int i = pick(5); i > 0; --i) items.push_back(random_value(random, depth + 1));
      return Value::tuple(items);
    default:
      Value::Dict dict;
      for (int i = pick(5); i > 0; --i) dict.emplace_back(i, random_value(random, depth + 1));
      return dict;
  }
}

}  // namespace

TEST_CASE("whatever is written is read as what it was") {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    const Value value = random_value(random, 0);
    CHECK(wire::decode(wire::encode(value)) == value);
  }
}

TEST_CASE("documents that are cut or changed are read, refused or foreign, and never more") {
  std::mt19937 random(11);
  const Tensor tensor = Tensor::of(std::vector<float>{1, 2});
  for (int i = 0; i < 20000; ++i) {
    auto payload = wire::encode(Value::List{random_value(random, 0), tensor});
    const std::size_t place = random() % payload.data.size();
    if (i % 3 == 0) {
      payload.data.resize(place);
    } else {
      payload.data[place] = static_cast<char>(random());
      if (i % 3 == 1) payload.data[random() % payload.data.size()] = static_cast<char>(random());
    }
    try {
      wire::decode(payload);
    } catch (const wire::Foreign&) {
    } catch (const Error&) {
    }
  }
}

TEST_CASE("random bytes are no harm either") {
  std::mt19937 random(13);
  for (int i = 0; i < 20000; ++i) {
    std::string data = i % 2 == 0 ? std::string("\x92\xc7\x00\x7f", 4) : std::string();
    for (auto length = random() % 60; length > 0; --length) data.push_back(static_cast<char>(random()));
    try {
      wire::decode(bytes(data));
    } catch (const wire::Foreign&) {
    } catch (const Error&) {
    }
  }
}

TEST_CASE("nesting has an end") {
  Value deep;
  for (int i = 0; i < 100; ++i) deep = Value(Value::List{Value(deep)});
  CHECK(wire::decode(wire::encode(deep)).size() == 1);
  for (int i = 0; i < 100; ++i) deep = Value(Value::List{Value(deep)});
  CHECK_THROWS_AS(wire::encode(deep), ConversionError);
  CHECK_THROWS_AS(wire::decode(bytes(std::string(100'000, '\x91'))), Error);
}

TEST_CASE("what only Python knows is foreign") {
  CHECK_THROWS_AS(wire::decode(bytes("\x80\x05pickle")), wire::Foreign);
  const std::string tagged("\x92\xc7\x00\x7f", 4);
  CHECK_THROWS_AS(wire::decode(bytes(tagged + std::string("\x92\xc7\x00\x02\x01", 5))), wire::Foreign);  // {1}
  CHECK_THROWS_AS(wire::decode(bytes(tagged + std::string("\xc7\x03\x18m\nf", 6))), wire::Foreign);      // m.f
  CHECK(wire::decode(bytes("\x80")) == Value(Value::Dict{}));
}

TEST_CASE("integers of any size are those of Python") {
  CHECK(bytes_of_integer("256") == std::string("\0\1\0", 3));
  CHECK(bytes_of_integer("-1") == "\xff\xff");
  CHECK(integer_of_bytes(std::string("\x80", 1)) == "-128");
  CHECK(integer_of_bytes("") == "0");
  for (const char* text : {"18446744073709551615", "18446744073709551616", "-9223372036854775809",
                           "1000000000000000000000000000", "-340282366920938463463374607431768211456"}) {
    CHECK(integer_of_bytes(bytes_of_integer(text)) == text);
    CHECK(wire::decode(wire::encode(Value::integer(text))).integerText() == text);
  }
  CHECK(Value::integer("00042") == Value(42));
  CHECK_THROWS_AS(bytes_of_integer("-"), ConversionError);
}

TEST_CASE("a tensor travels by reference, as what it is") {
  const Tensor tensor =
      Tensor::of(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, {2, 3}).as(Tensor::Kind::parameter, true);
  const auto payload = wire::encode(Value::List{tensor, tensor.as(Tensor::Kind::array)});
  CHECK(payload.attachments.size() == 2);
  const Value back = wire::decode(payload);
  CHECK(back.at(0).toTensor().data() == tensor.data());
  CHECK(back.at(0).toTensor().kind() == Tensor::Kind::parameter);
  CHECK(back.at(0).toTensor().requiresGrad());
  CHECK(back.at(1).toTensor().kind() == Tensor::Kind::array);
  CHECK(back.at(1).toTensor().shape() == std::vector<std::int64_t>{2, 3});
  // An index that leads nowhere, or to something that is no tensor.
  CHECK_THROWS_AS(wire::decode({payload.data, {}}), Error);
}
