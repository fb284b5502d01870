// A program that links nothing which its interpreters use too.
#include "own_library.h"

void use_own_library() {}

void compare_own_library(Interpreters&) {}
