// Shared libraries that ask libc for what interpreters have of their own.
//
// Problem: OpenSSL reads SSL_CERT_FILE, libcurl HTTPS_PROXY. Such libraries are one copy for the process, and libc
// would answer them with the host's environment, whoever called them.
//
// Model: when an interpreter uses a shared library, that library's references to some functions of the seam (those for
// environment variables, programs, threads, time zones and locales) are redirected to it, as those of a private image
// are from the beginning; so are those of the libraries that it needs. The seam answers for the interpreter whose
// thread it is that asks, and passes on what the host's threads ask.
//
// What a library reads while it is loaded is the host's: it is loaded once for all. One that reads the variable
// `environ` itself sees the host's too.
//
// One lock, under which glibc is asked; never held while anybody else's code runs.
#pragma once

#include <cstdint>
#include <string_view>

namespace multipy::elf {

/// Has the library behind `handle`, which glibc has loaded, and what it needs ask the seam.
void answer_for_interpreters(void* handle);

}  // namespace multipy::elf
