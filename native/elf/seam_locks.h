// The part of the seam that locks files: each interpreter has record locks of its own (system/record_locks.h).
//
//   fcntl fcntl64 lockf lockf64                        F_SETLK, F_SETLKW and F_GETLK are about the caller's own locks
//   open openat                                        give back a descriptor that was kept instead of closed
//   close fclose freopen dup2 dup3 close_range closefrom       what closes a descriptor ends the caller's locks on it
//
// flock and F_OFD_SETLK need nothing: their locks are the open file description's. In a child made by vfork nothing
// is done, as it has its parent's memory and not its descriptors.
#pragma once

#include <cstdint>
#include <string_view>

namespace multipy::elf {

/// What `name` is bound to in a private image; null: nothing of this part.
void* lock_seam(std::string_view name);

/// The address of what `getpid` is bound to in libraries that tell processes apart by it (Policy::numbered_patterns):
/// interpreters of one process would take each other's entries for their own.
std::uintptr_t process_number_seam();

}  // namespace multipy::elf
