#include "bindings/packed_dates.h"

#include <datetime.h>

#include <cstdint>

namespace multipy::bindings {

namespace {

enum Code : std::uint8_t { kDate = 18, kTime, kDateTime, kDateTimeUtc, kDelta };
constexpr std::size_t kDateSize = 4, kTimeSize = 6, kDateTimeSize = 10, kDeltaSize = 12;

/// Whether the module's functions can be called; with `import`, it is imported if it is not yet.
bool has_module(bool import) {
  if (PyDateTimeAPI != nullptr) return true;
  if (!import) {
    PyObject* const modules = PyImport_GetModuleDict();
    if (PyDict_GetItemString(modules, "datetime") == nullptr) return false;
  }
  PyDateTime_IMPORT;
  return PyDateTimeAPI != nullptr;
}

char low_byte(int value, int place) { return static_cast<char>(static_cast<unsigned>(value) >> (8 * place) & 0xff); }
int byte_at(std::string_view contents, std::size_t place) { return static_cast<std::uint8_t>(contents[place]); }

void put_date(char* to, int year, int month, int day) {
  to[0] = low_byte(year, 1);
  to[1] = low_byte(year, 0);
  to[2] = static_cast<char>(month);
  to[3] = static_cast<char>(day);
}

void put_time(char* to, int hour, int minute, int second, int microsecond) {
  to[0] = static_cast<char>(hour);
  to[1] = static_cast<char>(minute);
  to[2] = static_cast<char>(second);
  for (int i = 0; i < 3; ++i) to[3 + i] = low_byte(microsecond, 2 - i);
}

constexpr int kFold = 0x80;  // in the byte of the month of a datetime, or of the hour of a time

bool write_datetime(message_pack::Output& output, PyObject* value) {
  PyObject* const zone = PyDateTime_DATE_GET_TZINFO(value);
  if (zone != Py_None && zone != PyDateTime_TimeZone_UTC) return false;
  char contents[kDateTimeSize];
  const int fold = PyDateTime_DATE_GET_FOLD(value) != 0 ? kFold : 0;
  put_date(contents, PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value) | fold, PyDateTime_GET_DAY(value));
  put_time(contents + kDateSize, PyDateTime_DATE_GET_HOUR(value), PyDateTime_DATE_GET_MINUTE(value),
           PyDateTime_DATE_GET_SECOND(value), PyDateTime_DATE_GET_MICROSECOND(value));
  output.extension(zone == Py_None ? kDateTime : kDateTimeUtc, {contents, sizeof contents});
  return true;
}

bool write_time(message_pack::Output& output, PyObject* value) {
  if (PyDateTime_TIME_GET_TZINFO(value) != Py_None) return false;
  char contents[kTimeSize];
  const int fold = PyDateTime_TIME_GET_FOLD(value) != 0 ? kFold : 0;
  put_time(contents, PyDateTime_TIME_GET_HOUR(value) | fold, PyDateTime_TIME_GET_MINUTE(value),
           PyDateTime_TIME_GET_SECOND(value), PyDateTime_TIME_GET_MICROSECOND(value));
  output.extension(kTime, {contents, sizeof contents});
  return true;
}

void write_delta(message_pack::Output& output, PyObject* value) {
  const int parts[] = {PyDateTime_DELTA_GET_DAYS(value), PyDateTime_DELTA_GET_SECONDS(value),
                       PyDateTime_DELTA_GET_MICROSECONDS(value)};
  char contents[kDeltaSize];
  for (int part = 0; part < 3; ++part)
    for (int i = 0; i < 4; ++i) contents[4 * part + i] = low_byte(parts[part], i);
  output.extension(kDelta, {contents, sizeof contents});
}

int delta_part(std::string_view contents, std::size_t part) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i > 0; --i) value = value << 8 | static_cast<std::uint8_t>(contents[4 * part + i - 1]);
  return static_cast<int>(value);
}

int three_bytes(std::string_view contents, std::size_t place) {
  return byte_at(contents, place) << 16 | byte_at(contents, place + 1) << 8 | byte_at(contents, place + 2);
}

int year_of(std::string_view contents) { return byte_at(contents, 0) << 8 | byte_at(contents, 1); }

void check(std::string_view contents, std::size_t size) {
  if (contents.size() != size) message_pack::Input::malformed();
}

}  // namespace

bool write_date(message_pack::Output& output, PyObject* value) {
  if (!has_module(false)) {
    PyErr_Clear();
    return false;
  }
  if (PyDateTime_CheckExact(value)) return write_datetime(output, value);
  if (PyTime_CheckExact(value)) return write_time(output, value);
  if (PyDelta_CheckExact(value)) {
    write_delta(output, value);
    return true;
  }
  if (!PyDate_CheckExact(value)) return false;
  char contents[kDateSize];
  put_date(contents, PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value), PyDateTime_GET_DAY(value));
  output.extension(kDate, {contents, sizeof contents});
  return true;
}

bool is_date(int code) { return code >= kDate && code <= kDelta; }

PyObject* read_date(int code, std::string_view contents) {
  if (!has_module(true)) return nullptr;
  switch (code) {
    case kDate:
      check(contents, kDateSize);
      return PyDate_FromDate(year_of(contents), byte_at(contents, 2), byte_at(contents, 3));
    case kTime: {
      check(contents, kTimeSize);
      const int hour = byte_at(contents, 0);
      return PyTime_FromTimeAndFold(hour & ~kFold, byte_at(contents, 1), byte_at(contents, 2), three_bytes(contents, 3),
                                    (hour & kFold) != 0 ? 1 : 0);
    }
    case kDelta:
      check(contents, kDeltaSize);
      return PyDelta_FromDSU(delta_part(contents, 0), delta_part(contents, 1), delta_part(contents, 2));
    default: {
      check(contents, kDateTimeSize);
      const int month = byte_at(contents, 2);
      PyObject* const zone = code == kDateTimeUtc ? PyDateTime_TimeZone_UTC : Py_None;
      return PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(year_of(contents), month & ~kFold, byte_at(contents, 3),
                                                            byte_at(contents, 4), byte_at(contents, 5),
                                                            byte_at(contents, 6), three_bytes(contents, 7), zone,
                                                            (month & kFold) != 0 ? 1 : 0, PyDateTimeAPI->DateTimeType);
    }
  }
}

}  // namespace multipy::bindings
