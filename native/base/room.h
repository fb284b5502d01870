// Room that is made before it is needed, so that what must not fail needs no memory.
#pragma once

namespace multipy {

/// One more element of `list` needs no memory. Throws std::bad_alloc.
template <typename List>
void make_room_in(List& list) {
  if (list.size() == list.capacity()) list.reserve(2 * list.size() + 1);
}

}  // namespace multipy
