// Ends calls that have taken too long.
//
// One thread for the process, started when a call with a time limit is first made; it holds calls weakly and sleeps
// until the first of them is due. Calls that have gone meanwhile are swept out whenever half of what is kept may be.
#pragma once

#include <memory>

#include "base/export.h"
#include "base/futex.h"

namespace multipy {

class Call;

/// Has `call` expire at `when` unless it is done by then.
MULTIPY_API void expire_at(const std::shared_ptr<Call>& call, Clock::time_point when);

}  // namespace multipy
