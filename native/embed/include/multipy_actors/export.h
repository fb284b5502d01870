// Marks what libmultipy_embed offers. The library has the C++11 ABI of the standard library, as libtorch has.
#pragma once

#include <string>

#if defined(_GLIBCXX_USE_CXX11_ABI) && !_GLIBCXX_USE_CXX11_ABI
#error "multipy_actors is built with _GLIBCXX_USE_CXX11_ABI=1; compile with that, as today's libtorch is"
#endif

#define MULTIPY_ACTORS_API __attribute__((visibility("default")))
