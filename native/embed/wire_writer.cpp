// Values to bytes; see wire.h.
#include <stdexcept>
#include <string>
#include <utility>

#include "base/message_pack.h"
#include "big_integer.h"
#include "parts.h"
#include "wire.h"
#include "wire_format.h"

namespace multipy_actors::wire {

namespace {

using detail::Object;
using detail::TensorParts;

class Writer {
 public:
  explicit Writer(bool deep) : deep_(deep) {}

  void write(const Value& value, int depth) {
    if (depth > kMaxDepth) throw ConversionError("a value is nested too deeply to be sent");
    switch (value.kind()) {
      case Value::Kind::none:
        return output_.none();
      case Value::Kind::boolean:
        return output_.boolean(value.toBool());
      case Value::Kind::integer:
        return integer(value);
      case Value::Kind::real:
        return output_.real(value.toDouble());
      case Value::Kind::text:
        return output_.text(value.toText());
      case Value::Kind::bytes:
        return output_.bytes(value.toBytes());
      case Value::Kind::list:
        return list(value.toList(), depth);
      case Value::Kind::tuple:
        begin_list(value.toList().size() + 1);
        mark(kTuple);
        for (const Value& item : value.toList()) write(item, depth + 1);
        return;
      case Value::Kind::dict:
        return dict(value.toDict(), depth);
      case Value::Kind::tensor:
        return tensor(TensorParts::of(value.toTensor()));
      case Value::Kind::object:
        return object(Object::of(value), depth);
    }
  }

  void begin_list(std::size_t count) { output_.list(count); }
  void list(const Value::List& items, int depth) {
    begin_list(items.size());
    for (const Value& item : items) write(item, depth + 1);
  }
  void dict(const Value::Dict& items, int depth) {
    output_.dict(items.size());
    for (const auto& [key, value] : items) {
      write(key, depth + 1);
      write(value, depth + 1);
    }
  }
  multipy::Payload take() {
    payload_.data = output_.take();
    return std::move(payload_);
  }

 private:
  void mark(Mark type) { output_.extension(type, {}); }
  void integer(const Value& value) {
    if (const auto* small = Object::small(value)) return output_.integer(*small);
    const std::string bytes = bytes_of_integer(value.integerText());
    // MessagePack itself has unsigned numbers of 64 bits, and Python expects them so.
    if (bytes.size() == 9 && bytes.back() == 0) {
      std::uint64_t number = 0;
      for (int i = 7; i >= 0; --i) number = number << 8 | static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(i)]);
      return output_.unsigned_integer(number);
    }
    output_.extension(kInteger, bytes);
  }
  void attach(std::shared_ptr<multipy::Attachment> attachment) {
    output_.integer(static_cast<std::int64_t>(payload_.attachments.size()));
    payload_.attachments.push_back(std::move(attachment));
  }
  void strides(const std::optional<std::vector<std::int64_t>>& strides) {
    if (!strides) return output_.none();
    begin_list(strides->size());
    for (const std::int64_t stride : *strides) output_.integer(stride);
  }
  void tensor(const TensorParts& parts) {
    const bool array = parts.kind == Tensor::Kind::array;
    begin_list(array ? 5 : 6);
    mark(kTensor);
    attach(parts.shared);
    output_.integer(array ? kArray : parts.kind == Tensor::Kind::parameter ? 1 : 0);
    if (!array) output_.boolean(parts.requires_grad);
    if (parts.told.empty()) {
      output_.none();
    } else {
      parts.told_as_bytes ? output_.bytes(parts.told) : output_.text(parts.told);
    }
    strides(parts.strides);
  }
  /// A memoryview of bytes, writable.
  void memory(const Object& object) {
    begin_list(5);
    mark(kBuffer);
    attach(object.attachment);
    output_.boolean(false);
    output_.text("B");
    begin_list(1);
    output_.integer(static_cast<std::int64_t>(static_cast<const multipy::SharedTensor&>(*object.attachment).nbytes()));
  }
  void object(const Object& object, int depth) {
    if (!object.reference.empty()) return output_.extension(kReference, object.reference);
    if (object.is_result && depth > 1 && !deep_)
      throw ConversionError("an object of Python can be an argument, but not a part of one");
    if (object.is_memory) return memory(object);
    begin_list(2);
    mark(kAttached);
    attach(object.attachment);
  }

  const bool deep_;
  multipy::message_pack::Output output_{kTagged};
  multipy::Payload payload_;  // of it, the attachments so far
};

/// What `write` has written with a writer.
template <typename Write>
multipy::Payload written(bool deep, Write&& write) {
  Writer writer(deep);
  try {
    write(writer);
  } catch (const std::length_error&) {
    throw ConversionError("a value has more than 2**32 - 1 parts or bytes");
  }
  return writer.take();
}

}  // namespace

multipy::Payload encode(const Value& value) {
  return written(false, [&](Writer& writer) { writer.write(value, 0); });
}

multipy::Payload encode_request(const Value::List& operation, const Value::List& args, const Value::Dict& kwargs,
                                bool deep) {
  return written(deep, [&](Writer& writer) {
    writer.begin_list(3);
    writer.list(operation, 0);
    writer.list(args, 0);
    writer.dict(kwargs, 0);
  });
}

}  // namespace multipy_actors::wire
