// Integers of any size, as decimal text and as Python writes them: two's complement, the lowest byte first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace multipy_actors {

/// The number, if 64 bits hold it.
std::optional<std::int64_t> small_integer(std::string_view decimal);
/// Throws ConversionError if `decimal` is no number.
std::string bytes_of_integer(std::string_view decimal);
std::string integer_of_bytes(std::string_view bytes);

}  // namespace multipy_actors
