/* SHA-256 (FIPS 180-4) of bytes in memory. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHA256_BYTES 32

static uint32_t sha256_turn(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void sha256_block(uint32_t state[8], const unsigned char *block) {
  static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  uint32_t words[64], at[8];
  int i;
  for (i = 0; i < 16; i++) words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (; i < 64; i++) {
    const uint32_t a = words[i - 15], b = words[i - 2];
    words[i] = words[i - 16] + words[i - 7] + (sha256_turn(a, 7) ^ sha256_turn(a, 18) ^ a >> 3) + (sha256_turn(b, 17) ^ sha256_turn(b, 19) ^ b >> 10);
  }
  memcpy(at, state, sizeof at);
  for (i = 0; i < 64; i++) {
    const uint32_t e = at[4], a = at[0];
    const uint32_t first = at[7] + (sha256_turn(e, 6) ^ sha256_turn(e, 11) ^ sha256_turn(e, 25)) + ((e & at[5]) ^ (~e & at[6])) + constants[i] + words[i];
    const uint32_t second = (sha256_turn(a, 2) ^ sha256_turn(a, 13) ^ sha256_turn(a, 22)) + ((a & at[1]) ^ (a & at[2]) ^ (at[1] & at[2]));
    memmove(at + 1, at, 7 * sizeof *at);
    at[4] += first;
    at[0] = first + second;
  }
  for (i = 0; i < 8; i++) state[i] += at[i];
}

static void sha256(const unsigned char *bytes, size_t length, unsigned char digest[SHA256_BYTES]) {
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  /* What is left, a 1, zeroes, and how many bits there were. */
  unsigned char end[128] = {0};
  const size_t left = length % 64, end_bytes = left < 56 ? 64 : 128;
  size_t i;
  for (i = 0; i + 64 <= length; i += 64) sha256_block(state, bytes + i);
  memcpy(end, bytes + i, left);
  end[left] = 0x80;
  for (i = 0; i < 8; i++) end[end_bytes - 1 - i] = (unsigned char)((uint64_t)length * 8 >> (8 * i));
  for (i = 0; i < end_bytes; i += 64) sha256_block(state, end + i);
  for (i = 0; i < SHA256_BYTES; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}

#endif
