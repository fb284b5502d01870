#include "big_integer.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "multipy_actors/errors.h"

namespace multipy_actors {

namespace {

constexpr std::uint32_t kChunk = 1'000'000'000;  // nine decimal digits at a time
constexpr std::size_t kDigits = 9;

/// Turns a magnitude into its negative, or back.
void negate(std::string& bytes) {
  bool carry = true;
  for (char& byte : bytes) {
    byte = static_cast<char>(~byte);
    if (carry) carry = ++byte == 0;
  }
}

}  // namespace

std::optional<std::int64_t> small_integer(std::string_view decimal) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(decimal.data(), decimal.data() + decimal.size(), number);
  if (error != std::errc() || end != decimal.data() + decimal.size()) return std::nullopt;
  return number;
}

std::string bytes_of_integer(std::string_view decimal) {
  const bool negative = !decimal.empty() && decimal.front() == '-';
  std::string_view digits = decimal.substr(negative ? 1 : 0);
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string_view::npos)
    throw ConversionError("not an int: " + std::string(decimal));
  std::vector<std::uint32_t> words;  // the lowest first
  while (!digits.empty()) {
    const std::size_t count = (digits.size() - 1) % kDigits + 1;
    std::uint32_t scale = 1;
    for (std::size_t i = 0; i < count; ++i) scale *= 10;
    std::uint64_t carry = std::stoul(std::string(digits.substr(0, count)));
    digits.remove_prefix(count);
    for (std::uint32_t& word : words) {
      carry += std::uint64_t{word} * scale;
      word = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) words.push_back(static_cast<std::uint32_t>(carry));
  }
  std::string bytes;
  for (const std::uint32_t word : words) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(word >> shift));
  }
  while (!bytes.empty() && bytes.back() == 0) bytes.pop_back();
  bytes.push_back(0);  // room for the sign
  if (negative) negate(bytes);
  return bytes;
}

std::string integer_of_bytes(std::string_view raw) {
  std::string bytes(raw);
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  if (negative) negate(bytes);
  std::vector<std::uint32_t> chunks;  // of nine digits, the lowest first
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
    std::uint64_t carry = static_cast<std::uint8_t>(*byte);
    for (std::uint32_t& chunk : chunks) {
      carry += std::uint64_t{chunk} * 256;
      chunk = static_cast<std::uint32_t>(carry % kChunk);
      carry /= kChunk;
    }
    if (carry != 0) chunks.push_back(static_cast<std::uint32_t>(carry));
  }
  if (chunks.empty()) return "0";
  std::string text = negative ? "-" : "";
  text += std::to_string(chunks.back());
  for (auto chunk = chunks.rbegin() + 1; chunk != chunks.rend(); ++chunk) {
    const std::string digits = std::to_string(*chunk);
    text += std::string(kDigits - digits.size(), '0') + digits;
  }
  return text;
}

}  // namespace multipy_actors
