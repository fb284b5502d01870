// What a process has only so many of, and images take: mappings (vm.max_map_count) and keys of thread-specific data
// (PTHREAD_KEYS_MAX).
//
// When these are used up, it is the host that suffers: its allocations fail, its threads do not start, and libraries
// abort. So the loader leaves a reserve, and refuses with an error that names the limit.
//
// Counting the mappings takes about a microsecond each. So they are counted only when the last count is a second old,
// or when half of what was free then may have been taken since. Any thread, under a lock of its own.
#pragma once

#include <string>

#include "base/export.h"

namespace multipy::elf {

/// Before an image of `file` is mapped. Throws ImageError if the process would have too little left.
void claim_room(const std::string& file);

/// `call`, which has just failed, and errno's text; names the limit of mappings where that is the reason.
std::string describe_failure(const char* call);

}  // namespace multipy::elf
