// The marks and extension types of multipy_actors/wire/messagepack.py.
#pragma once

#include <cstdint>
#include <string_view>

namespace multipy_actors::wire {

/// What a list that begins with the mark stands for.
enum Mark : std::uint8_t { kTuple = 1, kSet, kFrozenset, kTensor, kAttached, kBuffer };
enum Extension : std::uint8_t { kInteger = 16, kScalar = 23, kReference = 24, kTag = 127 };
inline constexpr int kMaxDepth = 150;
inline constexpr std::string_view kTagged{"\x92\xc7\x00\x7f", 4};
inline constexpr int kPickle = 0x80;       // how pickles begin; to MessagePack an empty dict, which is one byte long
inline constexpr std::int64_t kArray = 2;  // among the kinds of tensors

}  // namespace multipy_actors::wire
