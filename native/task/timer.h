// Ends calls that have taken too long.
//
// One thread for the process, started when a call with a time limit is first made; it holds calls weakly and sleeps
// until the first of them is due. Calls that have gone meanwhile are swept out whenever half of what is kept may be.
//
// Code of a call that has been given up may take as long as the call could to clean up, and then is interrupted again,
// and so on: nobody else would, as the call has ended for all who could ask.
#pragma once

#include <memory>

#include "base/export.h"
#include "base/futex.h"

namespace multipy {

class Call;

/// Has `call` expire at `when` unless it is done by then.
MULTIPY_API void expire_at(const std::shared_ptr<Call>& call, Clock::time_point when);
/// Has the code of `call`, whose caller has been answered, interrupted after `patience` and again after as long, until
/// it ends.
MULTIPY_API void interrupt_until_over(const std::shared_ptr<Call>& call, Clock::duration patience);

}  // namespace multipy
