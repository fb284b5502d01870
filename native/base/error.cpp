#include "base/error.h"

namespace multipy {

namespace {

/// Names out of a damaged file may hold any bytes; a message must stay text.
std::string printable(const std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return out;
}

std::string describe(const std::string& file, const std::string& reason, const std::string& symbol) {
  std::string text = file + ": " + reason;
  if (!symbol.empty()) text += ": " + symbol;
  return text;
}

}  // namespace

// Out-of-line destructors anchor the type information in this library, so that an exception thrown here is
// recognised by every copy of the extension module.
Error::~Error() = default;
ImageError::~ImageError() = default;
StartError::~StartError() = default;
ClosedError::~ClosedError() = default;
DeadlockError::~DeadlockError() = default;
FullError::~FullError() = default;

ImageError::ImageError(std::string file, const std::string& reason, const std::string& symbol)
    : Error(describe(file, printable(reason), printable(symbol))), file_(std::move(file)), symbol_(printable(symbol)) {}

}  // namespace multipy
