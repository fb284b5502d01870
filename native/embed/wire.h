// Values as bytes and attachments, in the format of multipy_actors/wire/messagepack.py: MessagePack with extensions.
//
// What is written is always tagged, so containers other than lists and dicts are lists that begin with a mark. What is
// read may be anything that Python code returned; of that, what C++ has no type for is Foreign. The bytes come from
// our own interpreters, but are read as if they did not: every length is checked, and depth is bounded.
#pragma once

#include <stdexcept>
#include <string_view>

#include "multipy_actors/value.h"
#include "task/payload.h"

namespace multipy_actors::wire {

/// A document that is in order, but holds something that only Python can rebuild.
struct Foreign : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws ConversionError for what cannot be sent.
multipy::Payload encode(const Value& value);
/// `[operation, args, kwargs]`. Values of kind `object` that stand for results may be in the first level of the
/// arguments only; `deep` says that they may be anywhere, and arrive as futures there.
multipy::Payload encode_request(const Value::List& operation, const Value::List& args, const Value::Dict& kwargs = {},
                                bool deep = false);
/// Throws Foreign, or Error if the bytes are no document at all.
Value decode(const multipy::Payload& payload);

}  // namespace multipy_actors::wire
