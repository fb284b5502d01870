// Values to bytes; see wire.h.
#include <bit>
#include <string>
#include <utility>

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
  explicit Writer(bool deep) : deep_(deep) { payload_.data = kTagged; }

  void write(const Value& value, int depth) {
    if (depth > kMaxDepth) throw ConversionError("a value is nested too deeply to be sent");
    switch (value.kind()) {
      case Value::Kind::none:
        return byte(0xc0);
      case Value::Kind::boolean:
        return byte(value.toBool() ? 0xc3 : 0xc2);
      case Value::Kind::integer:
        return integer(value);
      case Value::Kind::real:
        byte(0xcb);
        return number(std::bit_cast<std::uint64_t>(value.toDouble()), 8);
      case Value::Kind::text:
        return sized(0xdb, value.toText());
      case Value::Kind::bytes:
        return sized(0xc6, value.toBytes());
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

  void begin_list(std::size_t count) { begin(0xdd, count); }
  void list(const Value::List& items, int depth) {
    begin_list(items.size());
    for (const Value& item : items) write(item, depth + 1);
  }
  void dict(const Value::Dict& items, int depth) {
    begin(0xdf, items.size());
    for (const auto& [key, value] : items) {
      write(key, depth + 1);
      write(value, depth + 1);
    }
  }
  multipy::Payload take() { return std::move(payload_); }

 private:
  void byte(int value) { payload_.data.push_back(static_cast<char>(value)); }
  void number(std::uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) byte(static_cast<int>(value >> (8 * i) & 0xff));
  }
  void begin(int type, std::size_t count) {
    if (count > UINT32_MAX) throw ConversionError("a value has more than 2**32 - 1 parts or bytes");
    byte(type);
    number(count, 4);
  }
  void sized(int type, std::string_view contents) {
    begin(type, contents.size());
    payload_.data += contents;
  }
  void extension(Extension type, std::string_view contents) {
    begin(0xc9, contents.size());
    byte(type);
    payload_.data += contents;
  }
  void mark(Mark type) {
    byte(0xc7);
    byte(0);
    byte(type);
  }
  void signed_number(std::int64_t value) {
    if (value >= -32 && value < 128) return byte(static_cast<int>(value) & 0xff);
    byte(0xd3);
    number(static_cast<std::uint64_t>(value), 8);
  }
  void integer(const Value& value) {
    if (const auto* small = Object::small(value)) return signed_number(*small);
    const std::string bytes = bytes_of_integer(value.integerText());
    // MessagePack itself has unsigned numbers of 64 bits, and Python expects them so.
    if (bytes.size() == 9 && bytes.back() == 0) {
      byte(0xcf);
      for (int i = 7; i >= 0; --i) payload_.data.push_back(bytes[static_cast<std::size_t>(i)]);
      return;
    }
    extension(kInteger, bytes);
  }
  void attach(std::shared_ptr<multipy::Attachment> attachment) {
    signed_number(static_cast<std::int64_t>(payload_.attachments.size()));
    payload_.attachments.push_back(std::move(attachment));
  }
  void strides(const std::optional<std::vector<std::int64_t>>& strides) {
    if (!strides) return byte(0xc0);
    begin_list(strides->size());
    for (const std::int64_t stride : *strides) signed_number(stride);
  }
  void tensor(const TensorParts& parts) {
    const bool array = parts.kind == Tensor::Kind::array;
    begin_list(array ? 5 : 6);
    mark(kTensor);
    attach(parts.shared);
    signed_number(array ? kArray : parts.kind == Tensor::Kind::parameter ? 1 : 0);
    if (!array) byte(parts.requires_grad ? 0xc3 : 0xc2);
    if (parts.told.empty()) {
      byte(0xc0);
    } else {
      sized(parts.told_as_bytes ? 0xc6 : 0xdb, parts.told);
    }
    strides(parts.strides);
  }
  /// A memoryview of bytes, writable.
  void memory(const Object& object) {
    begin_list(5);
    mark(kBuffer);
    attach(object.attachment);
    byte(0xc2);
    sized(0xdb, "B");
    begin_list(1);
    signed_number(static_cast<std::int64_t>(static_cast<const multipy::SharedTensor&>(*object.attachment).nbytes()));
  }
  void object(const Object& object, int depth) {
    if (!object.reference.empty()) return extension(kReference, object.reference);
    if (object.is_result && depth > 1 && !deep_)
      throw ConversionError("an object of Python can be an argument, but not a part of one");
    if (object.is_memory) return memory(object);
    begin_list(2);
    mark(kAttached);
    attach(object.attachment);
  }

  const bool deep_;
  multipy::Payload payload_;
};

}  // namespace

multipy::Payload encode(const Value& value) {
  Writer writer(false);
  writer.write(value, 0);
  return writer.take();
}

multipy::Payload encode_request(const Value::List& operation, const Value::List& args, const Value::Dict& kwargs,
                                bool deep) {
  Writer writer(deep);
  writer.begin_list(3);
  writer.list(operation, 0);
  writer.list(args, 0);
  writer.dict(kwargs, 0);
  return writer.take();
}

}  // namespace multipy_actors::wire
