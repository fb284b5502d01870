// Waiting on a 32-bit word. Unlike a condition variable it reports EINTR, so that a host thread waiting
// here for a result can look at its Python signals and raise KeyboardInterrupt at once.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/export.h"

namespace multipy {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

enum class WaitResult { woken, timed_out, interrupted };

/// Sleeps while `word == expected`, until woken, `deadline` passes or a signal handler ran. May wake spuriously.
MULTIPY_API WaitResult futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline);

/// Wakes up to `count` threads waiting on `word`.
MULTIPY_API void futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept;

}  // namespace multipy
