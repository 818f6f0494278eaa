#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

namespace backdoors::memory {

namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;

uint64_t LoadWord(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// Tables for eight bytes at a time: kTables[n][b] is the CRC of byte b followed by n zero bytes.
using Tables = std::array<std::array<uint32_t, 256>, 8>;
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t zeros = 1; zeros < 8; ++zeros) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[zeros - 1][byte];
      tables[zeros][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

uint32_t UpdateBySoftware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  for (; length >= 8; bytes += 8, length -= 8) {
    const uint64_t word = LoadWord(bytes) ^ crc;
    crc = 0;
    for (size_t index = 0; index < 8; ++index) crc ^= kTables[7 - index][(word >> (8 * index)) & 0xff];
  }
  for (; length > 0; ++bytes, --length) crc = (crc >> 8) ^ kTables[0][(crc ^ *bytes) & 0xff];
  return crc;
}

#if defined(__x86_64__)

// The crc32 instruction takes three cycles but one can start in each, so three runs of words are taken at once and
// their results put together: a run's CRC, followed by n bits of other runs, contributes crc * x^n mod P.
// (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel, 2011.)
constexpr size_t kMaxRunWords = 128;
// With fewer words, putting together costs more than it saves.
constexpr size_t kMinRunWords = 4;

// x^exponent mod P, in the reflected order of bits: the highest bit is x^0.
constexpr uint32_t PowerOfX(uint32_t exponent) {
  uint32_t power = 0x8000'0000;
  for (; exponent > 0; --exponent) power = (power >> 1) ^ ((power & 1) != 0 ? kPolynomial : 0);
  return power;
}

// kShifts[n] moves a CRC past n words. The carry-less product of two reflected words has one factor x more, and
// reducing it by the crc32 instruction adds x^32: hence the 33.
constexpr std::array<uint32_t, 2 * kMaxRunWords + 1> MakeShifts() {
  std::array<uint32_t, 2 * kMaxRunWords + 1> shifts{};
  uint32_t power = PowerOfX(64 - 33);
  for (size_t words = 1; words < shifts.size(); ++words) {
    shifts[words] = power;
    for (int bit = 0; bit < 64; ++bit) power = (power >> 1) ^ ((power & 1) != 0 ? kPolynomial : 0);
  }
  return shifts;
}
constexpr auto kShifts = MakeShifts();

__attribute__((target("sse4.2,pclmul"))) __m128i Shift(uint64_t crc, uint32_t by) {
  return _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<int64_t>(crc)), _mm_cvtsi32_si128(static_cast<int>(by)), 0);
}

__attribute__((target("sse4.2,pclmul"))) uint32_t UpdateThreeRuns(uint32_t crc, const uint8_t* bytes, size_t words) {
  const uint8_t* second_run = bytes + words * 8;
  const uint8_t* third_run = second_run + words * 8;
  uint64_t first = crc;
  uint64_t second = 0;
  uint64_t third = 0;
  for (size_t index = 0; index < words * 8; index += 8) {
    first = _mm_crc32_u64(first, LoadWord(bytes + index));
    second = _mm_crc32_u64(second, LoadWord(second_run + index));
    third = _mm_crc32_u64(third, LoadWord(third_run + index));
  }
  const __m128i sum = _mm_xor_si128(Shift(first, kShifts[2 * words]), Shift(second, kShifts[words]));
  const auto reduced = _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(sum)));
  return static_cast<uint32_t>(reduced ^ third);
}

__attribute__((target("sse4.2,pclmul"))) uint32_t UpdateByHardware(uint32_t crc, const uint8_t* bytes,
                                                                   size_t length) noexcept {
  while (length >= 3 * 8 * kMinRunWords) {
    const size_t all = length / 24;
    const size_t words = all < kMaxRunWords ? all : kMaxRunWords;
    crc = UpdateThreeRuns(crc, bytes, words);
    bytes += words * 24;
    length -= words * 24;
  }
  uint64_t wide = crc;
  for (; length >= 8; bytes += 8, length -= 8) wide = _mm_crc32_u64(wide, LoadWord(bytes));
  crc = static_cast<uint32_t>(wide);
  for (; length > 0; ++bytes, --length) crc = _mm_crc32_u8(crc, *bytes);
  return crc;
}

constexpr const char* kHardwareMeans = "sse4.2";
bool HasHardware() { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }

#elif defined(__aarch64__)

__attribute__((target("+crc"))) uint32_t UpdateByHardware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  for (; length >= 8; bytes += 8, length -= 8) crc = __crc32cd(crc, LoadWord(bytes));
  for (; length > 0; ++bytes, --length) crc = __crc32cb(crc, *bytes);
  return crc;
}

constexpr const char* kHardwareMeans = "armv8";
bool HasHardware() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

#else

constexpr auto UpdateByHardware = UpdateBySoftware;
constexpr const char* kHardwareMeans = "software";
bool HasHardware() { return false; }

#endif

const bool kHasHardware = HasHardware();

}  // namespace

uint32_t Crc32c(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  return ~(kHasHardware ? UpdateByHardware(~crc, bytes, length) : UpdateBySoftware(~crc, bytes, length));
}

uint32_t Crc32cBySoftware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  return ~UpdateBySoftware(~crc, bytes, length);
}

const char* Crc32cMeans() noexcept { return kHasHardware ? kHardwareMeans : "software"; }

}  // namespace backdoors::memory
