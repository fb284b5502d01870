// The record locks that one owner has on one file: ranges of bytes, each locked for reading or for writing.
//
// As POSIX has it: a later lock of the same owner replaces what it covers of earlier ones, splitting these where it
// must; neighbours of one kind are one range. Not safe for use by several threads.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <iterator>
#include <map>

namespace multipy {

/// The kinds are those of fcntl: F_RDLCK, F_WRLCK and, for none, F_UNLCK.
using LockKind = short;

/// Bytes of a file, the first and the last included.
struct ByteRange {
  off_t first = 0;
  off_t last = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

class ByteRanges {
 public:
  struct Held {
    off_t last;
    LockKind kind;
    friend bool operator==(const Held&, const Held&) = default;
  };

  void set(ByteRange range, LockKind kind) {
    split(range.first);
    if (range.last < maximum) split(range.last + 1);
    held_.erase(held_.lower_bound(range.first), held_.upper_bound(range.last));
    if (kind == F_UNLCK) return;
    const auto added = held_.emplace(range.first, Held{range.last, kind}).first;
    if (added->second.last < maximum) join(added, std::next(added));
    if (added != held_.begin()) join(std::prev(added), added);
  }

  /// Whether a lock of `kind` on `range` by somebody else has to wait for one of these.
  bool conflicts(ByteRange range, LockKind kind) const {
    auto place = held_.upper_bound(range.first);
    if (place != held_.begin() && std::prev(place)->second.last >= range.first) --place;
    for (; place != held_.end() && place->first <= range.last; ++place) {
      if (kind == F_WRLCK || place->second.kind == F_WRLCK) return true;
    }
    return false;
  }

  void clear() noexcept { held_.clear(); }
  /// By first byte.
  const std::map<off_t, Held>& all() const noexcept { return held_; }

  static constexpr off_t maximum = 0x7fffffffffffffff;

 private:
  using Place = std::map<off_t, Held>::iterator;

  /// Makes `at` the first byte of a range if it lies in one.
  void split(off_t at) {
    auto place = held_.lower_bound(at);
    if (place == held_.begin()) return;
    --place;
    if (place->second.last < at) return;
    held_.emplace(at, place->second);
    place->second.last = at - 1;
  }

  void join(Place left, Place right) {
    if (right == held_.end() || left->second.kind != right->second.kind || left->second.last + 1 != right->first)
      return;
    left->second.last = right->second.last;
    held_.erase(right);
  }

  std::map<off_t, Held> held_;
};

}  // namespace multipy
