#include "bindings/python_memory.h"

#include <Python.h>

#include <array>
#include <atomic>
#include <cstddef>

#include "base/heap.h"

namespace multipy::bindings {

namespace {

constexpr std::size_t kLargest = 64 << 10;  // bytes of a piece that is kept; the smallest arenas are four times that

struct Piece {
  void* memory = nullptr;
  std::size_t size = 0;
};

/// Of this image, and so of one interpreter. Python asks with its GIL held, but need not: whoever finds it in use goes
/// to the system, and nobody waits, not even in a forked child for a thread that is no more.
struct Kept {
  std::atomic_flag in_use = ATOMIC_FLAG_INIT;
  std::array<Piece, 4> pieces;
  PyObjectArenaAllocator system{};

  bool enter() { return !in_use.test_and_set(std::memory_order_acquire); }
  void leave() { in_use.clear(std::memory_order_release); }
};
Kept kept;

void* allocate(void*, std::size_t size) {
  void* memory = nullptr;
  if (size <= kLargest && kept.enter()) {
    for (Piece& piece : kept.pieces) {
      if (piece.size != size) continue;
      memory = piece.memory;
      piece = {};
      break;
    }
    kept.leave();
  }
  // A Python with another arena to fill will fill more of the heap, too.
  if (size > kLargest) multipy::widen_next_heap();
  return memory != nullptr ? memory : kept.system.alloc(kept.system.ctx, size);
}

void release(void*, void* memory, std::size_t size) {
  bool taken = false;
  if (memory != nullptr && size <= kLargest && kept.enter()) {
    for (Piece& piece : kept.pieces) {
      if (piece.memory != nullptr) continue;
      piece = {memory, size};
      taken = true;
      break;
    }
    kept.leave();
  }
  if (!taken) kept.system.free(kept.system.ctx, memory, size);
}

}  // namespace

void keep_pieces_of_stack() {
  PyObject_GetArenaAllocator(&kept.system);
  PyObjectArenaAllocator ours{nullptr, allocate, release};
  PyObject_SetArenaAllocator(&ours);
}

void release_pieces_of_stack() {
  if (!kept.enter()) return;
  for (Piece& piece : kept.pieces) {
    if (piece.memory != nullptr) kept.system.free(kept.system.ctx, piece.memory, piece.size);
    piece = {};
  }
  kept.leave();
}

}  // namespace multipy::bindings
