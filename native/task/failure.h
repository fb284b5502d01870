// Outcomes that no Python has encoded: what the core itself has to say of a call that failed.
#pragma once

#include <string_view>

#include "base/export.h"
#include "task/payload.h"

namespace multipy {

/// An error as multipy_actors/wire/__init__.py encodes those that cannot travel: its type's full name, its text and its
/// traceback. One of multipy_actors.errors arrives in its own type. All must be UTF-8.
MULTIPY_API Payload failure(std::string_view type, std::string_view text, std::string_view traceback = {});

/// The same of an error of the library: `name` is that of the class.
MULTIPY_API Payload own_failure(std::string_view name, std::string_view text);

}  // namespace multipy
