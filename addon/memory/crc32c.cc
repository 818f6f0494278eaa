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
// Runs are so short that the three together stay within few lines of memory: where they lie further apart, the
// processor's prefetching does not follow them, and bytes that come from memory take three times as long.
constexpr size_t kMaxRunWords = 32;
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

// What else is done with the words whose CRC is taken, each of which is loaded once.
struct Nothing {
  void Store(size_t, uint64_t) const {}
};
// Written past the caches, so that a line is neither fetched to be written nor pushes out what will be needed sooner.
struct StreamTo {
  uint8_t* target;
  __attribute__((target("sse4.2,pclmul"))) void Store(size_t index, uint64_t word) const {
    _mm_stream_si64(reinterpret_cast<long long*>(target + index), static_cast<long long>(word));
  }
};

template <typename Word>
__attribute__((target("sse4.2,pclmul"))) uint32_t UpdateThreeRuns(uint32_t crc, const uint8_t* bytes, size_t words,
                                                                  const Word& then) {
  const size_t run = words * 8;
  uint64_t first = crc;
  uint64_t second = 0;
  uint64_t third = 0;
  for (size_t index = 0; index < run; index += 8) {
    const uint64_t of_first = LoadWord(bytes + index);
    const uint64_t of_second = LoadWord(bytes + run + index);
    const uint64_t of_third = LoadWord(bytes + 2 * run + index);
    first = _mm_crc32_u64(first, of_first);
    second = _mm_crc32_u64(second, of_second);
    third = _mm_crc32_u64(third, of_third);
    then.Store(index, of_first);
    then.Store(run + index, of_second);
    then.Store(2 * run + index, of_third);
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
    crc = UpdateThreeRuns(crc, bytes, words, Nothing{});
    bytes += words * 24;
    length -= words * 24;
  }
  uint64_t wide = crc;
  for (; length >= 8; bytes += 8, length -= 8) wide = _mm_crc32_u64(wide, LoadWord(bytes));
  crc = static_cast<uint32_t>(wide);
  for (; length > 0; ++bytes, --length) crc = _mm_crc32_u8(crc, *bytes);
  return crc;
}

uint32_t CopyWithin(uint32_t crc, uint8_t* target, const uint8_t* source, size_t length, FetchAhead* ahead) noexcept {
  ahead->Advance(length);
  std::memcpy(target, source, length);
  return UpdateByHardware(crc, target, length);
}

// The first bytes of a record, which are looked at as soon as it is there, stay in the caches.
constexpr size_t kCachedBytes = 256;
constexpr size_t kLineBytes = 64;
// With fewer bytes to stream, all of them are better looked at at once.
constexpr size_t kMinStreamedBytes = 3 * 4 * kLineBytes;

__attribute__((target("sse4.2,pclmul"))) uint32_t CopyByHardware(uint32_t crc, uint8_t* target, const uint8_t* source,
                                                                 size_t length, FetchAhead* ahead) noexcept {
  if (length < kCachedBytes + kLineBytes + kMinStreamedBytes) return CopyWithin(crc, target, source, length, ahead);
  // A line is streamed whole or not at all: of a part, the rest would have to be fetched after all.
  const size_t cached = kCachedBytes + (kLineBytes - reinterpret_cast<uintptr_t>(target) % kLineBytes) % kLineBytes;
  crc = CopyWithin(crc, target, source, cached, ahead);
  size_t done = cached;
  while (length - done >= 3 * kLineBytes) {
    const size_t all = (length - done) / 24 / 8 * 8;
    const size_t words = all < kMaxRunWords ? all : kMaxRunWords;
    ahead->Advance(words * 24);
    crc = UpdateThreeRuns(crc, source + done, words, StreamTo{target + done});
    done += words * 24;
  }
  return CopyWithin(crc, target + done, source + done, length - done, ahead);
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

// Block by block, so that a block is in a cache still when its CRC is taken.
uint32_t CopyByBlocks(uint32_t crc, uint8_t* target, const uint8_t* source, size_t length, FetchAhead* ahead) noexcept {
  constexpr size_t kBlockBytes = 4096;
  while (length > 0) {
    const size_t block = length < kBlockBytes ? length : kBlockBytes;
    ahead->Advance(block);
    std::memcpy(target, source, block);
    crc = kHasHardware ? UpdateByHardware(crc, target, block) : UpdateBySoftware(crc, target, block);
    target += block;
    source += block;
    length -= block;
  }
  return crc;
}

}  // namespace

uint32_t Crc32c(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  return ~(kHasHardware ? UpdateByHardware(~crc, bytes, length) : UpdateBySoftware(~crc, bytes, length));
}

uint32_t Crc32cBySoftware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept {
  return ~UpdateBySoftware(~crc, bytes, length);
}

uint32_t CopyCrc32c(uint32_t crc, uint8_t* target, const uint8_t* source, size_t length, FetchAhead* ahead) noexcept {
#if defined(__x86_64__)
  if (kHasHardware) return ~CopyByHardware(~crc, target, source, length, ahead);
#endif
  return ~CopyByBlocks(~crc, target, source, length, ahead);
}

void FinishCopies() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

const char* Crc32cMeans() noexcept { return kHasHardware ? kHardwareMeans : "software"; }

}  // namespace backdoors::memory
