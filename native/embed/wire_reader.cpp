// Bytes to values; see wire.h.
#include <cstring>
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

using detail::TensorParts;

[[noreturn]] void malformed() { throw Error("an interpreter has sent something that is not in order"); }

class Reader {
 public:
  explicit Reader(const multipy::Payload& payload) : attachments_(payload.attachments), input_(payload.data) {
    tagged_ = input_.rest().starts_with(kTagged);
    if (tagged_) input_.bytes(kTagged.size());
  }

  Value read_all() {
    Value value = read(0);
    if (!input_.empty()) malformed();
    return value;
  }

 private:
  Value read(int depth) {
    if (depth > 2 * kMaxDepth) malformed();
    using multipy::message_pack::Kind;
    const multipy::message_pack::Head head = input_.head();
    switch (head.kind) {
      case Kind::none:
        return nullptr;
      case Kind::boolean:
        return head.number != 0;
      case Kind::integer:
        return head.integer();
      case Kind::unsigned_integer:
        return head.number;
      case Kind::real:
        return head.real();
      case Kind::text:
        return std::string(input_.bytes(head.number));
      case Kind::bytes:
        return Value::bytes(std::string(input_.bytes(head.number)));
      case Kind::list:
        return list(head.number, depth);
      case Kind::dict:
        return dict(head.number, depth);
      case Kind::extension:
        return extension(head.number);
    }
    malformed();
  }

  Value list(std::uint64_t count, int depth) {
    const int mark = count > 0 && tagged_ ? next_mark() : 0;
    Value::List items;
    items.reserve(count);
    for (std::uint64_t i = mark == 0 ? 0 : 1; i < count; ++i) items.push_back(read(depth + 1));
    switch (mark) {
      case 0:
        return items;
      case kTuple:
        return Value::tuple(std::move(items));
      case kTensor:
        return tensor(items);
      case kBuffer:
        return buffer(items);
      case kSet:
      case kFrozenset:
        throw Foreign("a set");
      case kAttached:
        throw Foreign("a handle or a future");
      default:
        throw Foreign("something unknown");
    }
  }
  /// The mark that comes next, and is taken; 0 if something else does.
  int next_mark() {
    if (!input_.rest().starts_with(std::string_view("\xc7\x00", 2))) return 0;
    return static_cast<std::uint8_t>(input_.bytes(3)[2]);
  }

  Value dict(std::uint64_t count, int depth) {
    Value::Dict items;
    items.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      Value key = read(depth + 1);
      items.emplace_back(std::move(key), read(depth + 1));
    }
    return items;
  }

  Value extension(std::uint64_t size) {
    const auto type = static_cast<std::uint8_t>(input_.bytes(1)[0]);
    const auto contents = input_.bytes(size);
    switch (type) {
      case kInteger:
        return Value::integer(integer_of_bytes(contents));
      case kScalar:
        return scalar(contents);
      case kReference:
        throw Foreign("a function or class");
      default:
        throw Foreign("a complex number, a date or a time");
    }
  }

  template <typename T>
  static Value number_of(std::string_view raw) {
    T number;
    if (raw.size() != sizeof number) throw Foreign("a NumPy scalar");
    std::memcpy(&number, raw.data(), sizeof number);
    return number;
  }
  /// A NumPy scalar: the character of its type, a zero byte, its bytes.
  static Value scalar(std::string_view contents) {
    if (contents.size() < 3 || contents[1] != 0) throw Foreign("a NumPy scalar");
    const auto raw = contents.substr(2);
    switch (contents[0]) {
      case '?':
        return raw[0] != 0;
      case 'b':
        return number_of<signed char>(raw);
      case 'B':
        return number_of<unsigned char>(raw);
      case 'h':
        return number_of<short>(raw);
      case 'H':
        return number_of<unsigned short>(raw);
      case 'i':
        return number_of<int>(raw);
      case 'I':
        return number_of<unsigned>(raw);
      case 'l':
      case 'q':
        return number_of<std::int64_t>(raw);
      case 'L':
      case 'Q':
        return number_of<std::uint64_t>(raw);
      case 'f':
        return number_of<float>(raw);
      case 'd':
        return number_of<double>(raw);
      default:
        throw Foreign("a NumPy scalar");
    }
  }

  std::shared_ptr<multipy::SharedTensor> shared(const Value& index) {
    if (index.kind() != Value::Kind::integer) malformed();
    const auto place = static_cast<std::uint64_t>(index.toInt());
    if (place >= attachments_.size()) malformed();
    auto tensor = std::dynamic_pointer_cast<multipy::SharedTensor>(attachments_[place]);
    if (tensor == nullptr) malformed();
    return tensor;
  }

  Value tensor(const Value::List& items) {
    if (items.size() != 4 && items.size() != 5) malformed();
    TensorParts parts{shared(items[0])};
    const bool array = items.size() == 4;
    if (items[1].kind() != Value::Kind::integer || (items[1].toInt() == kArray) != array) malformed();
    if (array) {
      parts.kind = Tensor::Kind::array;
    } else {
      parts.kind = items[1].toInt() == 1 ? Tensor::Kind::parameter : Tensor::Kind::tensor;
      if (items[2].kind() != Value::Kind::boolean) malformed();
      parts.requires_grad = items[2].toBool();
    }
    const Value& told = items[items.size() - 2];
    if (told.kind() == Value::Kind::text) parts.told = told.toText();
    if (told.kind() == Value::Kind::bytes) {
      parts.told = told.toBytes();
      parts.told_as_bytes = true;
    }
    if (!items.back().isNone()) {
      parts.strides.emplace();
      for (const Value& stride : items.back().toList()) parts.strides->push_back(stride.toInt());
    }
    return TensorParts::make(std::move(parts));
  }

  /// bytes, a bytearray or a memoryview; here all are bytes.
  Value buffer(const Value::List& items) {
    if (items.empty()) malformed();
    if (items[0].kind() == Value::Kind::bytes) return items[0];
    const auto memory = shared(items[0]);
    const DLTensor& dense = memory->tensor();
    return Value::bytes(std::string(static_cast<const char*>(dense.data) + dense.byte_offset, memory->nbytes()));
  }

  const std::vector<std::shared_ptr<multipy::Attachment>>& attachments_;
  multipy::message_pack::Input input_;
  bool tagged_;
};

}  // namespace

Value decode(const multipy::Payload& payload) {
  if (payload.data.size() > 1 && static_cast<std::uint8_t>(payload.data[0]) == kPickle) throw Foreign("an object");
  try {
    return Reader(payload).read_all();
  } catch (const ConversionError&) {
    malformed();
  } catch (const std::invalid_argument&) {
    malformed();
  }
}

}  // namespace multipy_actors::wire
