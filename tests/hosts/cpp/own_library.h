// The library that the program itself links and uses beside its interpreters: none, or libtorch.
#pragma once

#include "interpreters.h"

/// Before there are interpreters.
void use_own_library();

/// While interpreters use the same library: both get the same results, and neither changes the other's settings.
void compare_own_library(Interpreters& interpreters);
