// The dates and times of Python's datetime module in documents of multipy_actors/wire/messagepack.py.
//
// A value of exactly one of its types becomes an extension whose contents are the bytes that pickle would have of it;
// one with a time zone other than datetime.timezone.utc does not, as that may be anything. Nothing is imported: where
// the module is not imported there is no such value, and who reads one has it imported by then.
#pragma once

#include <string_view>

#include "base/message_pack.h"
#include "bindings/bind.h"

namespace multipy::bindings {

/// Writes `value` if it is one that can be written.
bool write_date(message_pack::Output& output, PyObject* value);

/// Whether `code` is that of an extension that stands for a date or time.
bool is_date(int code);
/// A new reference, or nullptr with an exception set.
PyObject* read_date(int code, std::string_view contents);

}  // namespace multipy::bindings
