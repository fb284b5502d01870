// What cannot be tested under a sanitizer.
#pragma once

#ifdef __SANITIZE_THREAD__
/// ThreadSanitizer puts off signals to a thread's next call that blocks, and puts a frame of its own, which cannot be
/// unwound, below each thread's function.
inline constexpr bool kUnderThreadSanitizer = true;
#else
inline constexpr bool kUnderThreadSanitizer = false;
#endif
