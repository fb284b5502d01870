// Marks what libmultipy_core offers to the extension module and to embedders; all else stays hidden.
#pragma once

#define MULTIPY_API __attribute__((visibility("default")))
