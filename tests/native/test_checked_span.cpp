// Reads of untrusted bytes: inside the view, at its edges, and with offsets that overflow.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>

#include "base/checked_span.h"

using multipy::CheckedSpan;
using multipy::OutOfBounds;

namespace {

constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
alignas(8) constexpr std::array<unsigned char, 8> bytes = {1, 0, 0, 0, 2, 'a', 'b', 0};
const CheckedSpan view(bytes.data(), bytes.size());

}  // namespace

TEST_CASE("a value is read from any offset, aligned or not") {
  CHECK(view.read<std::uint32_t>(0) == 1);
  CHECK(view.read<std::uint16_t>(4) == 0x6102);
  CHECK(view.read<std::uint32_t>(1) == 0x02000000);
}

TEST_CASE("a read that leaves the view throws, at the end, past it and where offsets overflow") {
  CHECK_NOTHROW(view.read<std::uint64_t>(0));
  CHECK_THROWS_AS(view.read<std::uint64_t>(1), OutOfBounds);
  CHECK_THROWS_AS(view.read<std::uint8_t>(8), OutOfBounds);
  CHECK_THROWS_AS(view.read<std::uint8_t>(huge), OutOfBounds);
  CHECK_THROWS_AS(view.read<std::uint64_t>(huge - 3), OutOfBounds);
}

TEST_CASE("a table is read in place, and refused if it is too long, misaligned or overflows") {
  const auto table = view.array<std::uint32_t>(0, 2);
  CHECK(table.size() == 2);
  CHECK(static_cast<const void*>(table.data()) == bytes.data());
  CHECK(view.array<std::uint32_t>(8, 0).empty());
  CHECK_THROWS_AS(view.array<std::uint32_t>(0, 3), OutOfBounds);
  CHECK_THROWS_AS(view.array<std::uint32_t>(2, 1), OutOfBounds);
  CHECK_THROWS_AS(view.array<std::uint32_t>(0, huge / 2), OutOfBounds);
}

TEST_CASE("a string ends at its NUL, and one without is refused") {
  CHECK(view.c_string(5) == "ab");
  CHECK(view.c_string(7).empty());
  CHECK_THROWS_AS(view.sub(4, 3).c_string(0), OutOfBounds);
  CHECK_THROWS_AS(view.c_string(8), OutOfBounds);
}

TEST_CASE("a part of a view is confined to that part") {
  const CheckedSpan part = view.sub(4, 2);
  CHECK(part.size() == 2);
  CHECK(part.read<std::uint8_t>(1) == 'a');
  CHECK_THROWS_AS(part.read<std::uint8_t>(2), OutOfBounds);
  CHECK_THROWS_AS(view.sub(7, 2), OutOfBounds);
  CHECK_THROWS_AS(view.sub(1, huge), OutOfBounds);
  CHECK(view.sub(8, 0).size() == 0);
}

TEST_CASE("an empty view has nothing to read") {
  const CheckedSpan empty;
  CHECK(empty.size() == 0);
  CHECK_THROWS_AS(empty.read<std::uint8_t>(0), OutOfBounds);
  CHECK_THROWS_AS(empty.c_string(0), OutOfBounds);
}
