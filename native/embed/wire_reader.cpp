// Bytes to values; see wire.h.
#include <bit>
#include <cstring>
#include <string>
#include <utility>

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
  explicit Reader(const multipy::Payload& payload) : attachments_(payload.attachments), rest_(payload.data) {
    tagged_ = rest_.substr(0, kTagged.size()) == kTagged;
    if (tagged_) rest_.remove_prefix(kTagged.size());
  }

  Value read_all() {
    Value value = read(0);
    if (!rest_.empty()) malformed();
    return value;
  }

 private:
  Value read(int depth) {
    if (depth > 2 * kMaxDepth) malformed();
    const int head = static_cast<std::uint8_t>(bytes(1)[0]);
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head < 0x90) return dict(head & 0x0f, depth);
    if (head < 0xa0) return list(head & 0x0f, depth);
    if (head < 0xc0) return std::string(bytes(head & 0x1f));
    switch (head) {
      case 0xc0:
        return nullptr;
      case 0xc2:
      case 0xc3:
        return head == 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return Value::bytes(std::string(bytes(number(1 << (head - 0xc4)))));
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return extension(number(1 << (head - 0xc7)));
      case 0xca:
        return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(number(4))));
      case 0xcb:
        return std::bit_cast<double>(number(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return number(1 << (head - 0xcc));
      case 0xd0:
        return static_cast<std::int8_t>(number(1));
      case 0xd1:
        return static_cast<std::int16_t>(number(2));
      case 0xd2:
        return static_cast<std::int32_t>(number(4));
      case 0xd3:
        return static_cast<std::int64_t>(number(8));
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return extension(1U << (head - 0xd4));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return std::string(bytes(number(1 << (head - 0xd9))));
      case 0xdc:
      case 0xdd:
        return list(number(2 << (head - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return dict(number(2 << (head - 0xde)), depth);
      default:
        malformed();
    }
  }

  std::string_view bytes(std::uint64_t count) {
    if (count > rest_.size()) malformed();
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint64_t number(int count) {
    std::uint64_t value = 0;
    for (const char byte : bytes(static_cast<std::uint64_t>(count)))
      value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }

  Value list(std::uint64_t count, int depth) {
    if (count > rest_.size()) malformed();  // each item is a byte at least
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
    if (rest_.substr(0, 2) != std::string_view("\xc7\x00", 2)) return 0;
    return static_cast<std::uint8_t>(bytes(3)[2]);
  }

  Value dict(std::uint64_t count, int depth) {
    if (count > rest_.size() / 2) malformed();
    Value::Dict items;
    items.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      Value key = read(depth + 1);
      items.emplace_back(std::move(key), read(depth + 1));
    }
    return items;
  }

  Value extension(std::uint64_t size) {
    const auto type = static_cast<std::uint8_t>(bytes(1)[0]);
    const auto contents = bytes(size);
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
  std::string_view rest_;
  bool tagged_;
};

}  // namespace

Value decode(const multipy::Payload& payload) {
  if (payload.data.size() > 1 && static_cast<std::uint8_t>(payload.data[0]) == kPickle) throw Foreign("an object");
  try {
    return Reader(payload).read_all();
  } catch (const ConversionError&) {
    malformed();
  }
}

}  // namespace multipy_actors::wire
