/*
 * backdoors.h: how a server in C, C++, or any language that can call C, joins the region that its machine's
 * Backdoors daemon lends: it beats sensors, commits sessions, and takes over those that the daemon has adopted.
 *
 * One file, C11 or C++, libc only, Linux. In exactly one source file, before every other include:
 *
 *     #define BACKDOORS_IMPLEMENTATION
 *     #include "backdoors.h"
 *
 * The bytes are those of docs/layout.md; the rules of use, and an example, stand in docs/c-header.md. In short:
 *
 *   - Commit before you answer. A commit that returned 0 is found by whoever recovers this server.
 *   - BACKDOORS_FENCED means that another node serves these sessions now: stop, and answer nobody any more.
 *   - A node is used by one thread at a time. A child made by fork() calls backdoors_forked() first of all.
 *   - All functions that return int return a negative backdoors_error where they fail.
 */
#ifndef BACKDOORS_H
#define BACKDOORS_H

#if defined(BACKDOORS_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include <stddef.h>
#include <stdint.h>

/* `#define BACKDOORS_API static` keeps all of it within one source file. */
#ifndef BACKDOORS_API
#define BACKDOORS_API extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The names are those of docs/errors.md, and SESSION_NOT_FOUND, which is no failure elsewhere. */
typedef enum backdoors_error {
  BACKDOORS_OK = 0,
  BACKDOORS_FENCED = -1,             /* stop serving; if a commit was under way, its outcome is unknown */
  BACKDOORS_REGION_NOT_FOUND = -2,   /* no file of this name: is the daemon running? */
  BACKDOORS_REGION_CORRUPT = -3,     /* the file is no region */
  BACKDOORS_REGION_TRUNCATED = -4,   /* the file is shorter than its header says */
  BACKDOORS_LAYOUT_UNSUPPORTED = -5, /* the daemon is of another release */
  BACKDOORS_BOX_IN_USE = -6,         /* a living process is attached under this name */
  BACKDOORS_BOXES_EXHAUSTED = -7,    /* all boxes are taken, or wait for their recovery: raise region.boxes */
  BACKDOORS_BOX_FULL = -8,           /* nothing has changed: raise region.heapBytes or region.sessionsPerBox */
  BACKDOORS_SESSION_TOO_LARGE = -9,  /* nothing has changed: a session takes at most half of the box's heap */
  BACKDOORS_SESSION_ID_INVALID = -10, /* an id is 1 to 1024 bytes of UTF-8 without NUL */
  BACKDOORS_INVALID_ARGUMENT = -11,
  BACKDOORS_SENSORS_EXHAUSTED = -12, /* raise region.sensorsPerBox */
  BACKDOORS_RECORD_CORRUPT = -13,    /* something has written over this session in memory */
  BACKDOORS_SESSION_NOT_FOUND = -14, /* there is none of this id, or its time to live is over */
  BACKDOORS_SYSTEM_CALL_FAILED = -15, /* errno says why; ENOMEM where memory ran out */
  BACKDOORS_PROTOCOL_ERROR = -16     /* the daemon's socket says what is no message; it is connected anew later */
} backdoors_error;

/* A server in its box. */
typedef struct backdoors_node backdoors_node;

/* A sensor, as the process that beats it holds it; valid until the node is closed. */
typedef struct backdoors_sensor {
  backdoors_node *node;
  unsigned char *cell;
} backdoors_sensor;

typedef struct backdoors_options {
  uint32_t ttl_ms;         /* time to live from this commit on, in milliseconds; 0 = without end */
  uint32_t schema_version; /* of the payload: the server's own business */
} backdoors_options;

/* A session's newest committed state. Texts are not terminated. All pointers hold until the next call for this node. */
typedef struct backdoors_session {
  const char *store;
  size_t store_bytes;
  const char *id;
  size_t id_bytes;
  const char *from; /* node that it was adopted from; NULL where it began here */
  size_t from_bytes;
  const void *payload;
  size_t payload_bytes;
  uint64_t sequence;
  uint32_t schema_version;
  uint32_t ttl_ms;
  uint64_t remaining_ms; /* what is left of its time to live; 0 = without end */
} backdoors_session;

/* A sentence for people. */
BACKDOORS_API const char *backdoors_strerror(int error);

/*
 * Joins the region at this path under a name that is this server's alone on its machine. A restarted server finds its
 * sessions by it, unless it has been fenced: then they are another node's.
 * FENCED (the whole node is), REGION_NOT_FOUND, REGION_CORRUPT, REGION_TRUNCATED, LAYOUT_UNSUPPORTED, BOX_IN_USE,
 * BOXES_EXHAUSTED, INVALID_ARGUMENT, SYSTEM_CALL_FAILED.
 */
BACKDOORS_API int backdoors_attach(backdoors_node **node, const char *region, const char *name);

/* An orderly end: nobody recovers the box, and a server of this name finds its sessions when it comes again. NULL is none. */
BACKDOORS_API void backdoors_close(backdoors_node *node);

/* For a child that was forked and goes on without exec: lets go of the box, which stays the parent's. */
BACKDOORS_API void backdoors_forked(backdoors_node *node);

/* 1 where this server has been fenced, else 0. Two loads. */
BACKDOORS_API int backdoors_fenced(const backdoors_node *node);

/* Name of the machine, as its region has it; terminated. */
BACKDOORS_API const char *backdoors_node_name(const backdoors_node *node);
BACKDOORS_API uint32_t backdoors_box(const backdoors_node *node);
BACKDOORS_API uint32_t backdoors_generation(const backdoors_node *node);

/*
 * A counter that has to move within its deadline while work is pending; it begins with work pending. The same name gives
 * the same sensor. A name has 1 to 16 bytes of UTF-8. SENSORS_EXHAUSTED, INVALID_ARGUMENT.
 */
BACKDOORS_API int backdoors_progress(backdoors_node *node, const char *name, uint32_t deadline_us, backdoors_sensor *sensor);

/* A value with a limit: memory in use (level), or, where `is_pressure` is not 0, how much work waits. */
BACKDOORS_API int backdoors_gauge(backdoors_node *node, const char *name, int is_pressure, backdoors_sensor *sensor);

/* Moves the counter. FENCED. */
BACKDOORS_API int backdoors_beat(const backdoors_sensor *sensor);

/* How much work waits; while it is 0 the deadline does not run. */
BACKDOORS_API void backdoors_pending(const backdoors_sensor *sensor, uint32_t count);
BACKDOORS_API void backdoors_level(const backdoors_sensor *sensor, double value, double limit);

/*
 * Makes the payload the session's newest state. Answer the client after this has returned 0, and not before. Allocates
 * nothing for a session that exists. `options` NULL: without end, schema version 1. The payload must not be a view of another
 * session.
 * FENCED: the outcome is unknown. BOX_FULL, SESSION_TOO_LARGE, SESSION_ID_INVALID, INVALID_ARGUMENT, SYSTEM_CALL_FAILED:
 * the session is as it was.
 */
BACKDOORS_API int backdoors_commit(backdoors_node *node, const char *store, const char *id, size_t id_bytes, const void *payload,
                                   size_t payload_bytes, const backdoors_options *options);

/* SESSION_NOT_FOUND, RECORD_CORRUPT. */
BACKDOORS_API int backdoors_get(backdoors_node *node, const char *store, const char *id, size_t id_bytes, backdoors_session *session);

/* SESSION_NOT_FOUND, FENCED: the outcome is unknown. */
BACKDOORS_API int backdoors_delete(backdoors_node *node, const char *store, const char *id, size_t id_bytes);

/*
 * The sessions of all stores, those that an earlier life of this server left among them: 1 and a session, or 0 at the end.
 * `cursor` begins at 0. Sessions may be committed and deleted meanwhile. RECORD_CORRUPT: this one is damaged (store and id
 * are told), go on for the others.
 */
BACKDOORS_API int backdoors_next(backdoors_node *node, uint32_t *cursor, backdoors_session *session);

/* Drops what has outlived its time to live; to be called every ten seconds or so. How many it were, or FENCED. */
BACKDOORS_API int backdoors_sweep(backdoors_node *node);

/* From now on the daemon may offer sessions of this store that it has adopted. INVALID_ARGUMENT, SYSTEM_CALL_FAILED. */
BACKDOORS_API int backdoors_serve(backdoors_node *node, const char *store);

/* Called once for each adopted session, which is in this server's own box by then. */
typedef void (*backdoors_adopted)(void *context, const backdoors_session *session);

/*
 * Takes over what the daemon offers; never waits. To be called from a timer, or when backdoors_fd() can be read. How many
 * sessions came, which may be none; a daemon that is not there is no error. PROTOCOL_ERROR, SYSTEM_CALL_FAILED: it may be
 * called again, and connects anew.
 */
BACKDOORS_API int backdoors_adopt_poll(backdoors_node *node, backdoors_adopted adopted, void *context);

/* The socket to the daemon, for poll(2); -1 while there is none: poll by a timer as well. */
BACKDOORS_API int backdoors_fd(const backdoors_node *node);

#ifdef __cplusplus
}
#endif
#endif /* BACKDOORS_H */

/* ------------------------------------------------------------------------------------------ implementation */
#if defined(BACKDOORS_IMPLEMENTATION) && !defined(BACKDOORS_IMPLEMENTED)
#define BACKDOORS_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#error "backdoors.h needs _GNU_SOURCE: include it before all other headers, or compile with -D_GNU_SOURCE"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the region's numbers are little-endian, and so far is this code"
#endif

#ifdef __cplusplus
#define BD_NEW(type, count) static_cast<type *>(calloc((count), sizeof(type)))
#define BD_CAST(type, value) static_cast<type>(value)
#else
#define BD_NEW(type, count) ((type *)calloc((count), sizeof(type)))
#define BD_CAST(type, value) ((type)(value))
#endif

/* Sizes and offsets, as docs/layout.md has them. */
#define BD_PAGE 4096u
#define BD_VERSION 1u
#define BD_MAX_NAME 64u
#define BD_MAX_ID 1024u
#define BD_MAX_REGION 0xffffffffu
#define BD_MAX_BOXES 255u
#define BD_UNIT 64u
#define BD_CONTROL 4096u
#define BD_DIRECTORY 8192u
#define BD_ENTRY 256u
#define BD_VERSION_A 32u
#define BD_VERSION_B 128u
#define BD_VERSION_BYTES 96u
#define BD_CELL 64u
#define BD_INDEX 32u
#define BD_RECORD 48u
#define BD_ORIGIN 20u
#define BD_USED 1u
#define BD_CURRENT_IS_B 2u
#define BD_DELETED 4u
#define BD_FENCE_ALL 0xffffffffu
#define BD_ANNOUNCED 5u
#define BD_SAFE_INTEGER 0x1fffffffffffffu
#define BD_NEVER UINT64_MAX
#define BD_NONE UINT32_MAX
#define BD_MAX_LINE ((size_t)8 << 20)
#define BD_FIRST_RETRY_MS 50u
#define BD_LAST_RETRY_MS 2000u
#define BD_NOTES "backdoors:adoptions"

enum bd_state { BD_FREE = 0, BD_OPEN = 1, BD_CLOSED = 2 };

/* ---------------------------------------------------------------- bytes, text, time */

static uint16_t bd_u16(const unsigned char *at) {
  uint16_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static uint32_t bd_u32(const unsigned char *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static uint64_t bd_u64(const unsigned char *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

static void bd_put32(unsigned char *at, uint32_t value) { memcpy(at, &value, sizeof value); }
static void bd_put64(unsigned char *at, uint64_t value) { memcpy(at, &value, sizeof value); }

/* All that was written is visible to every reader before what follows is read. */
static void bd_barrier(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* Nothing that is written later is seen before what was written earlier: a CRC comes last. */
static void bd_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

/* Milliseconds of the node's own monotonic clock. A test puts its own in its place. */
#ifndef BACKDOORS_CLOCK_MS
static uint64_t bd_clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return BD_CAST(uint64_t, now.tv_sec) * 1000u + BD_CAST(uint64_t, now.tv_nsec) / 1000000u;
}
#define BACKDOORS_CLOCK_MS bd_clock_ms
#endif

/* Is it text: UTF-8 of the shortest form, not empty, without NUL, within `most` bytes? */
static int bd_is_text(const unsigned char *at, size_t length, size_t most) {
  size_t i = 0;
  if (length == 0 || length > most) return 0;
  while (i < length) {
    const unsigned char first = at[i++];
    uint32_t code, lowest;
    unsigned following;
    if (first == 0) return 0;
    if (first < 0x80) continue;
    if (first >= 0xc2 && first < 0xe0) following = 1, code = first & 0x1fu, lowest = 0x80;
    else if (first >= 0xe0 && first < 0xf0) following = 2, code = first & 0x0fu, lowest = 0x800;
    else if (first >= 0xf0 && first < 0xf5) following = 3, code = first & 0x07u, lowest = 0x10000;
    else return 0;
    for (; following > 0; following--, i++) {
      if (i >= length || (at[i] & 0xc0) != 0x80) return 0;
      code = (code << 6) | (at[i] & 0x3fu);
    }
    if (code < lowest || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
  }
  return 1;
}

static const unsigned char *bd_bytes(const char *text) { return BD_CAST(const unsigned char *, BD_CAST(const void *, text)); }
static const char *bd_chars(const unsigned char *bytes) { return BD_CAST(const char *, BD_CAST(const void *, bytes)); }

/* ---------------------------------------------------------------- CRC32C */

static uint32_t bd_crc_tables[4][256];
static int bd_crc_made;

/* Four tables ("slicing by 4"): what a byte does to the CRC when 0 to 3 bytes follow it. Whoever comes second writes the same. */
static void bd_make_crc_tables(void) {
  uint32_t byte;
  unsigned table;
  if (__atomic_load_n(&bd_crc_made, __ATOMIC_ACQUIRE)) return;
  for (byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    int bit;
    for (bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1u) ? 0x82f63b78u : 0u);
    bd_crc_tables[0][byte] = crc;
  }
  for (table = 1; table < 4; table++) {
    for (byte = 0; byte < 256; byte++) {
      const uint32_t before = bd_crc_tables[table - 1][byte];
      bd_crc_tables[table][byte] = bd_crc_tables[0][before & 0xff] ^ (before >> 8);
    }
  }
  __atomic_store_n(&bd_crc_made, 1, __ATOMIC_RELEASE);
}

static uint32_t bd_crc_by_tables(uint32_t crc, const unsigned char *at, size_t length) {
  for (; length >= 4; at += 4, length -= 4) {
    crc ^= bd_u32(at);
    crc = bd_crc_tables[3][crc & 0xff] ^ bd_crc_tables[2][(crc >> 8) & 0xff] ^ bd_crc_tables[1][(crc >> 16) & 0xff] ^ bd_crc_tables[0][crc >> 24];
  }
  for (; length > 0; at++, length--) crc = (crc >> 8) ^ bd_crc_tables[0][(crc ^ *at) & 0xff];
  return crc;
}

#if defined(__x86_64__) && !defined(BACKDOORS_NO_SSE42)
__attribute__((target("sse4.2"))) static uint32_t bd_crc_by_sse42(uint32_t crc, const unsigned char *at, size_t length) {
  uint64_t wide = crc;
  for (; length >= 8; at += 8, length -= 8) wide = __builtin_ia32_crc32di(wide, bd_u64(at));
  crc = BD_CAST(uint32_t, wide);
  for (; length > 0; at++, length--) crc = __builtin_ia32_crc32qi(crc, *at);
  return crc;
}
static int bd_has_sse42(void) { return __builtin_cpu_supports("sse4.2") != 0; }
#else
#define bd_crc_by_sse42 bd_crc_by_tables
static int bd_has_sse42(void) { return 0; }
#endif

/* Continues from `seed`, 0 to begin. */
static uint32_t bd_crc32c(const unsigned char *at, size_t length, uint32_t seed) {
  return ~(bd_has_sse42() ? bd_crc_by_sse42(~seed, at, length) : bd_crc_by_tables(~seed, at, length));
}

/* ---------------------------------------------------------------- a set of small numbers, with its next member */

struct bd_set {
  uint64_t *bits, *words, *tops; /* a bit for each number, for each word of those, for each word of these */
  uint32_t word_count, top_count, all;
};

static int bd_set_make(struct bd_set *set, uint32_t numbers) {
  set->word_count = numbers / 64 + 1;
  set->top_count = set->word_count / 64 + 1;
  set->all = set->top_count / 64 + 1;
  set->bits = BD_NEW(uint64_t, set->word_count);
  set->words = BD_NEW(uint64_t, set->top_count);
  set->tops = BD_NEW(uint64_t, set->all);
  return set->bits && set->words && set->tops;
}

static void bd_set_free(struct bd_set *set) {
  free(set->bits);
  free(set->words);
  free(set->tops);
}

static void bd_set_add(struct bd_set *set, uint32_t number) {
  set->bits[number >> 6] |= UINT64_C(1) << (number & 63);
  set->words[number >> 12] |= UINT64_C(1) << ((number >> 6) & 63);
  set->tops[number >> 18] |= UINT64_C(1) << ((number >> 12) & 63);
}

static void bd_set_remove(struct bd_set *set, uint32_t number) {
  if ((set->bits[number >> 6] &= ~(UINT64_C(1) << (number & 63))) != 0) return;
  if ((set->words[number >> 12] &= ~(UINT64_C(1) << ((number >> 6) & 63))) != 0) return;
  set->tops[number >> 18] &= ~(UINT64_C(1) << ((number >> 12) & 63));
}

/* The position of the first bit from `from` on in these words, or BD_NONE. */
static uint32_t bd_next_bit(const uint64_t *words, uint32_t count, uint32_t from, uint32_t most) {
  uint32_t word = from >> 6, steps;
  uint64_t bits;
  if (word >= count) return BD_NONE;
  bits = words[word] & (~UINT64_C(0) << (from & 63));
  for (steps = 0; bits == 0; steps++) {
    if (steps >= most || ++word >= count) return BD_NONE;
    bits = words[word];
  }
  return (word << 6) + BD_CAST(uint32_t, __builtin_ctzll(bits));
}

/* The smallest member from `from` on, or BD_NONE. */
static uint32_t bd_set_next(const struct bd_set *set, uint32_t from) {
  uint32_t found = bd_next_bit(set->bits, set->word_count, from, 0), word, top;
  if (found != BD_NONE) return found;
  word = bd_next_bit(set->words, set->top_count, (from >> 6) + 1, 0);
  if (word == BD_NONE) {
    top = bd_next_bit(set->tops, set->all, (((from >> 6) + 1) >> 6) + 1, set->all);
    if (top == BD_NONE) return BD_NONE;
    word = bd_next_bit(set->words, set->top_count, top << 6, 0);
    if (word == BD_NONE) return BD_NONE;
  }
  return bd_next_bit(set->bits, set->word_count, word << 6, 0);
}

/* ---------------------------------------------------------------- the heap */

/*
 * The owner's private account of its box's heap, in units of 64 bytes; nothing of it is shared, so a restarted owner
 * builds it anew. It gives the very slots that src/region/heap.ts gives. Free slots stand in lists by size, the last one in
 * is the first one out; they are merged only when nothing fits. What belongs to a free slot is kept by where it begins.
 */
struct bd_heap {
  uint32_t total, unused;
  uint32_t *units, *next, *previous; /* by start; neighbours in a list plus 1, 0 = none */
  uint32_t *head, *tail;             /* by size; start plus 1 */
  uint32_t *order, ordered;          /* sizes in the order in which they first had a slot */
  unsigned char *known;
  uint32_t *scratch; /* pairs of start and units */
  struct bd_set starts, sizes;
};

static int bd_heap_make(struct bd_heap *heap, uint32_t heap_bytes) {
  const uint32_t total = heap_bytes / BD_UNIT;
  const size_t count = BD_CAST(size_t, total) + 2;
  heap->total = heap->unused = total;
  heap->units = BD_NEW(uint32_t, count);
  heap->next = BD_NEW(uint32_t, count);
  heap->previous = BD_NEW(uint32_t, count);
  heap->head = BD_NEW(uint32_t, count);
  heap->tail = BD_NEW(uint32_t, count);
  heap->order = BD_NEW(uint32_t, count);
  heap->known = BD_NEW(unsigned char, count);
  heap->scratch = BD_NEW(uint32_t, 2 * count);
  return heap->units && heap->next && heap->previous && heap->head && heap->tail && heap->order && heap->known && heap->scratch &&
         bd_set_make(&heap->starts, total + 1) && bd_set_make(&heap->sizes, total + 1);
}

static void bd_heap_release(struct bd_heap *heap) {
  free(heap->units);
  free(heap->next);
  free(heap->previous);
  free(heap->head);
  free(heap->tail);
  free(heap->order);
  free(heap->known);
  free(heap->scratch);
  bd_set_free(&heap->starts);
  bd_set_free(&heap->sizes);
}

static void bd_heap_free(struct bd_heap *heap, uint32_t start, uint32_t units) {
  const uint32_t last = heap->tail[units];
  if (!heap->known[units]) {
    heap->known[units] = 1;
    heap->order[heap->ordered++] = units;
  }
  heap->units[start] = units;
  heap->previous[start] = last;
  heap->next[start] = 0;
  if (last) heap->next[last - 1] = start + 1;
  else {
    heap->head[units] = start + 1;
    bd_set_add(&heap->sizes, units);
  }
  heap->tail[units] = start + 1;
  bd_set_add(&heap->starts, start);
}

static uint32_t bd_heap_pop(struct bd_heap *heap, uint32_t units) {
  const uint32_t start = heap->tail[units] - 1;
  const uint32_t before = heap->previous[start];
  heap->tail[units] = before;
  if (before) heap->next[before - 1] = 0;
  else {
    heap->head[units] = 0;
    bd_set_remove(&heap->sizes, units);
  }
  bd_set_remove(&heap->starts, start);
  return start;
}

/* Where a slot of exactly so many units begins, or BD_NONE. */
static uint32_t bd_heap_take(struct bd_heap *heap, uint32_t units) {
  uint32_t start, best;
  if (units > heap->total) return BD_NONE;
  if (heap->tail[units]) return bd_heap_pop(heap, units);
  if (heap->unused >= units) {
    start = heap->total - heap->unused;
    heap->unused -= units;
    return start;
  }
  best = bd_set_next(&heap->sizes, units + 1);
  if (best == BD_NONE) return BD_NONE;
  start = bd_heap_pop(heap, best);
  bd_heap_free(heap, start + units, best - units);
  return start;
}

/* Makes the pairs in `scratch` the free slots, in this order. */
static void bd_heap_set(struct bd_heap *heap, uint32_t pairs) {
  uint32_t i, start;
  for (i = 0; i < heap->ordered; i++) {
    heap->head[heap->order[i]] = heap->tail[heap->order[i]] = 0;
    heap->known[heap->order[i]] = 0;
    bd_set_remove(&heap->sizes, heap->order[i]);
  }
  for (start = bd_set_next(&heap->starts, 0); start != BD_NONE; start = bd_set_next(&heap->starts, start + 1)) bd_set_remove(&heap->starts, start);
  heap->ordered = 0;
  heap->unused = 0;
  for (i = 0; i < pairs; i++) {
    const uint32_t from = heap->scratch[2 * i], units = heap->scratch[2 * i + 1];
    if (from + units == heap->total) heap->unused = units;
    else bd_heap_free(heap, from, units);
  }
}

static uint32_t bd_heap_note(struct bd_heap *heap, uint32_t pairs, uint32_t start, uint32_t units) {
  heap->scratch[2 * pairs] = start;
  heap->scratch[2 * pairs + 1] = units;
  return pairs + 1;
}

/* Joins neighbouring free slots. Were there any? */
static int bd_heap_merge(struct bd_heap *heap) {
  uint32_t pairs = 0, slots = 0;
  uint32_t start = bd_set_next(&heap->starts, 0);
  while (start != BD_NONE || heap->unused > 0) {
    const uint32_t from = start == BD_NONE ? heap->total - heap->unused : start;
    const uint32_t units = start == BD_NONE ? heap->unused : heap->units[start];
    uint32_t *last = pairs == 0 ? NULL : heap->scratch + 2 * (pairs - 1);
    slots++;
    if (last != NULL && last[0] + last[1] == from) last[1] += units;
    else pairs = bd_heap_note(heap, pairs, from, units);
    if (start == BD_NONE) break;
    start = bd_set_next(&heap->starts, start + 1);
  }
  if (pairs == slots) return 0;
  bd_heap_set(heap, pairs);
  return 1;
}

/* Four steps for each doubling, so that a slot wastes at most a fifth of itself. */
static uint32_t bd_size_class(uint32_t units) {
  uint32_t step;
  if (units <= 4) return units;
  step = UINT32_C(1) << (31u - BD_CAST(uint32_t, __builtin_clz(units - 1)) - 2u);
  return (units + step - 1) / step * step;
}

/* A slot for so many bytes: where it begins, or BD_NONE; its length goes to `units`. */
static uint32_t bd_heap_allocate(struct bd_heap *heap, uint32_t bytes, uint32_t *units) {
  const uint32_t least = (bytes + BD_UNIT - 1) / BD_UNIT;
  uint32_t start;
  *units = BD_CAST(uint64_t, least) * 8 > heap->total ? least : bd_size_class(least);
  start = bd_heap_take(heap, *units);
  if (start == BD_NONE && bd_heap_merge(heap)) start = bd_heap_take(heap, *units);
  if (start != BD_NONE) return start;
  *units = least;
  return bd_heap_take(heap, least);
}

/* A slot that was just freed is taken again, although it may have been merged meanwhile. */
static void bd_heap_retake(struct bd_heap *heap, uint32_t from, uint32_t units) {
  uint32_t pairs = 0, all, i, node;
  const uint32_t to = from + units;
  uint32_t cut = BD_NONE, cut_end = 0;
  for (i = 0; i < heap->ordered; i++) {
    for (node = heap->head[heap->order[i]]; node; node = heap->next[node - 1]) pairs = bd_heap_note(heap, pairs, node - 1, heap->units[node - 1]);
  }
  if (heap->unused > 0) pairs = bd_heap_note(heap, pairs, heap->total - heap->unused, heap->unused);
  for (all = pairs, i = 0; i < all; i++) {
    const uint32_t start = heap->scratch[2 * i], end = start + heap->scratch[2 * i + 1];
    if (start <= from && end >= to) cut = i, cut_end = end;
  }
  if (cut != BD_NONE) {
    const uint32_t start = heap->scratch[2 * cut];
    const uint32_t pieces = (start < from ? 1u : 0u) + (cut_end > to ? 1u : 0u);
    memmove(heap->scratch + 2 * (cut + pieces), heap->scratch + 2 * (cut + 1), sizeof(uint32_t) * 2 * (all - cut - 1));
    if (start < from) cut = bd_heap_note(heap, cut, start, from - start);
    if (cut_end > to) bd_heap_note(heap, cut, to, cut_end - to);
    pairs = all - 1 + pieces;
  }
  bd_heap_set(heap, pairs);
}

/* ---------------------------------------------------------------- the server in its box */

struct bd_slot {
  uint32_t start, units; /* 0 units: there is none */
};

/* What is kept of one session outside shared memory, by its position in the index. */
struct bd_held {
  unsigned char *prefix; /* store, id and origin, as they stand behind each record's header; NULL = no session */
  uint64_t expires_at_ms;
  struct bd_slot current, idle;
  uint32_t hash, record_bytes;
  uint32_t next, previous; /* in its store, in the order in which they came; plus 1 */
  uint16_t store, store_bytes, id_bytes, origin_bytes;
  unsigned char current_is_b;
};

struct bd_store {
  char name[BD_MAX_NAME + 1];
  uint16_t bytes;
  unsigned char is_served;
  uint32_t first, last; /* positions plus 1 */
};

struct bd_buffer {
  char *bytes;
  size_t length, capacity, scanned;
};

struct backdoors_node {
  unsigned char *region;
  size_t region_bytes;
  char *path;
  char name[BD_MAX_NAME + 1], node_name[BD_MAX_NAME + 1];
  int lock_fd, is_child;
  uint64_t incarnation;
  uint32_t box_count, sensors_per_box, sessions_per_box, heap_bytes;
  uint64_t boxes_offset, box_bytes, index_in_box, heap_in_box;
  uint32_t box, generation, seed;
  unsigned char *entry, *sensors, *index, *heap_base;
  uint64_t sequence;
  /* sessions */
  struct bd_held *held;
  uint32_t *table, table_mask; /* positions plus 1, by hash */
  uint64_t hash_key;
  uint32_t *free_positions, free_count, next_position;
  struct bd_heap heap;
  struct bd_store *stores;
  uint32_t store_count;
  /* sensors */
  char (*sensor_names)[17];
  uint32_t sensor_count;
  /* the daemon's socket */
  int socket_fd, must_announce;
  uint64_t retry_at_ms;
  uint32_t retry_ms;
  struct bd_buffer in, out;
};

BACKDOORS_API const char *backdoors_strerror(int error) {
  switch (error) {
    case BACKDOORS_OK: return "no error";
    case BACKDOORS_FENCED: return "this server has been fenced: another node serves its sessions; stop serving, and acknowledge nothing more";
    case BACKDOORS_REGION_NOT_FOUND: return "there is no region of this path: is the daemon running?";
    case BACKDOORS_REGION_CORRUPT: return "this file is no region, or its header is damaged";
    case BACKDOORS_REGION_TRUNCATED: return "the region's file is shorter than its header says; delete it, and the daemon makes a new one";
    case BACKDOORS_LAYOUT_UNSUPPORTED: return "the region has another layout version: use the header of the daemon's own release";
    case BACKDOORS_BOX_IN_USE: return "a server of this name is attached already; give each process its own name";
    case BACKDOORS_BOXES_EXHAUSTED: return "all boxes are taken or wait for their recovery; raise region.boxes";
    case BACKDOORS_BOX_FULL: return "the box is full; raise region.heapBytes or region.sessionsPerBox, or give sessions a time to live";
    case BACKDOORS_SESSION_TOO_LARGE: return "a session takes at most half of the box's heap; raise region.heapBytes";
    case BACKDOORS_SESSION_ID_INVALID: return "a session id is 1 to 1024 bytes of UTF-8 without NUL";
    case BACKDOORS_INVALID_ARGUMENT: return "an argument is out of its bounds";
    case BACKDOORS_SENSORS_EXHAUSTED: return "the box has no room for another sensor; raise region.sensorsPerBox";
    case BACKDOORS_RECORD_CORRUPT: return "the session fails its CRC in memory: something has written over the box";
    case BACKDOORS_SESSION_NOT_FOUND: return "there is no session of this id";
    case BACKDOORS_SYSTEM_CALL_FAILED: return "a system call failed; errno says why";
    case BACKDOORS_PROTOCOL_ERROR: return "what came from the daemon's socket is no message of this release";
    default: return "unknown error";
  }
}

/* ---------------------------------------------------------------- control words, directory, locks */

/* The low half of a fence word. Box BD_NONE is the node's own pair. */
static uint32_t bd_fence(const backdoors_node *node, uint32_t box) {
  const size_t pair = box == BD_NONE ? 0 : BD_CAST(size_t, box) + 1;
  const void *word = node->region + BD_CONTROL + pair * 16;
  return __atomic_load_n(BD_CAST(const uint32_t *, word), __ATOMIC_SEQ_CST);
}

static uint64_t bd_claim(const backdoors_node *node, uint32_t box) {
  const void *word = node->region + BD_CONTROL + (BD_CAST(size_t, box) + 1) * 16 + 8;
  return __atomic_load_n(BD_CAST(const uint64_t *, word), __ATOMIC_SEQ_CST);
}

/* Did a recovery of this box run to its end, so that what is left in it is nobody's? */
static int bd_is_recovered(const backdoors_node *node, uint32_t box) {
  const uint32_t fence = bd_fence(node, box);
  const uint64_t claim = bd_claim(node, box);
  return fence > 0 && fence < BD_FENCE_ALL && (claim & 0xff) == BD_ANNOUNCED && ((claim >> 24) & 0xffff) != 0 && (claim >> 40) == (fence & 0xffffff);
}

BACKDOORS_API int backdoors_fenced(const backdoors_node *node) {
  return bd_fence(node, node->box) >= node->generation || bd_fence(node, BD_NONE) != 0;
}

/* Whose a box is. */
struct bd_entry {
  uint32_t revision, generation, state, pid;
  uint64_t sequence_floor;
  uint32_t name_bytes, offset; /* of the version within the entry */
  unsigned char name[BD_MAX_NAME];
};

static int bd_read_version(const unsigned char *entry, uint32_t offset, struct bd_entry *found) {
  unsigned char at[BD_VERSION_BYTES];
  memcpy(at, entry + offset, sizeof at);
  if (bd_u32(at + 92) != bd_crc32c(at, 92, 0)) return 0;
  found->revision = bd_u32(at);
  found->generation = bd_u32(at + 4);
  found->state = bd_u32(at + 8);
  found->pid = bd_u32(at + 12);
  found->sequence_floor = bd_u64(at + 16);
  found->name_bytes = bd_u32(at + 24);
  found->offset = offset;
  memcpy(found->name, at + 28, BD_MAX_NAME);
  return found->state <= BD_CLOSED && found->sequence_floor <= BD_SAFE_INTEGER && bd_is_text(at + 28, found->name_bytes, BD_MAX_NAME);
}

/* 0 where the entry is corrupt. A box that was never used is free, of generation 0. */
static int bd_read_entry(const unsigned char *entry, struct bd_entry *found) {
  struct bd_entry a, b;
  const int has_a = bd_read_version(entry, BD_VERSION_A, &a);
  const int has_b = bd_read_version(entry, BD_VERSION_B, &b);
  size_t i;
  memset(found, 0, sizeof *found);
  if (has_a || has_b) {
    *found = has_a && !(has_b && b.revision > a.revision) ? a : b;
    return 1;
  }
  for (i = BD_VERSION_A; i < BD_ENTRY; i++) {
    if (entry[i] != 0) return 0;
  }
  return 1;
}

/* Writes the older of the two versions, so that whoever reads meanwhile, or after this was cut short, finds the other. */
static void bd_write_entry(unsigned char *entry, const struct bd_entry *what) {
  unsigned char at[BD_VERSION_BYTES] = {0};
  struct bd_entry before;
  uint32_t offset;
  if (what->state == BD_FREE) {
    memset(entry, 0, BD_ENTRY);
    bd_barrier();
    return;
  }
  if (!bd_read_entry(entry, &before)) before.revision = before.offset = 0;
  offset = before.offset == BD_VERSION_A ? BD_VERSION_B : BD_VERSION_A;
  bd_put32(at, before.revision + 1);
  bd_put32(at + 4, what->generation);
  bd_put32(at + 8, what->state);
  bd_put32(at + 12, what->pid);
  bd_put64(at + 16, what->sequence_floor);
  bd_put32(at + 24, what->name_bytes);
  memcpy(at + 28, what->name, what->name_bytes);
  bd_put32(at + 92, bd_crc32c(at, 92, 0));
  memcpy(entry + offset, at, sizeof at);
  bd_barrier();
}

static unsigned char *bd_entry_at(const backdoors_node *node, uint32_t box) { return node->region + BD_DIRECTORY + BD_CAST(size_t, box) * BD_ENTRY; }

static int bd_lock(const backdoors_node *node, uint32_t box, int command, short type, short *found) {
  struct flock lock;
  memset(&lock, 0, sizeof lock);
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = BD_CAST(off_t, BD_DIRECTORY + box * BD_ENTRY);
  lock.l_len = 1;
  if (fcntl(node->lock_fd, command, &lock) != 0) return -1;
  if (found != NULL) *found = lock.l_type;
  return 0;
}

static int bd_has_name(const backdoors_node *node, const struct bd_entry *entry) {
  const size_t bytes = strlen(node->name);
  return entry->name_bytes == bytes && memcmp(entry->name, node->name, bytes) == 0;
}

/* BOX_IN_USE where a living process holds a box under this name. */
static int bd_check_name_is_free(const backdoors_node *node, uint32_t own) {
  uint32_t box;
  for (box = 1; box < node->box_count; box++) {
    struct bd_entry entry;
    short type = F_UNLCK;
    if (box == own || !bd_read_entry(bd_entry_at(node, box), &entry) || !bd_has_name(node, &entry)) continue;
    if (bd_lock(node, box, F_OFD_GETLK, F_WRLCK, &type) != 0) return BACKDOORS_SYSTEM_CALL_FAILED;
    if (type != F_UNLCK) return BACKDOORS_BOX_IN_USE;
  }
  return 0;
}

/* ---------------------------------------------------------------- records and index entries */

struct bd_record {
  uint64_t sequence, committed_at_ms;
  uint32_t schema_version, payload_bytes, ttl_ms, total;
  uint16_t store_bytes, id_bytes, origin_bytes;
};

/* Decodes and checks the record at the start of these bytes, which may be anything. */
static int bd_read_record(const unsigned char *at, uint64_t length, uint32_t seed, struct bd_record *found) {
  const unsigned char *store = at + BD_RECORD, *id, *origin;
  uint64_t total;
  if (length < BD_RECORD) return 0;
  found->store_bytes = bd_u16(at + 32);
  found->id_bytes = bd_u16(at + 34);
  found->origin_bytes = bd_u16(at + 36);
  found->payload_bytes = bd_u32(at + 24);
  if (found->store_bytes == 0 || found->store_bytes > BD_MAX_NAME || found->id_bytes == 0 || found->id_bytes > BD_MAX_ID) return 0;
  total = BD_CAST(uint64_t, BD_RECORD) + found->store_bytes + found->id_bytes + found->origin_bytes + found->payload_bytes;
  if (total > length || bd_u32(at) != bd_crc32c(at + 4, BD_CAST(size_t, total - 4), seed)) return 0;
  id = store + found->store_bytes;
  origin = id + found->id_bytes;
  found->schema_version = bd_u32(at + 4);
  found->sequence = bd_u64(at + 8);
  found->committed_at_ms = bd_u64(at + 16);
  found->ttl_ms = bd_u32(at + 28);
  found->total = BD_CAST(uint32_t, total);
  if (found->origin_bytes != 0) {
    if (found->origin_bytes <= BD_ORIGIN || bd_u64(origin + 8) > BD_SAFE_INTEGER) return 0;
    if (!bd_is_text(origin + BD_ORIGIN, found->origin_bytes - BD_ORIGIN, BD_MAX_NAME)) return 0;
  }
  return found->sequence <= BD_SAFE_INTEGER && found->committed_at_ms <= BD_SAFE_INTEGER && bd_is_text(store, found->store_bytes, BD_MAX_NAME) &&
         bd_is_text(id, found->id_bytes, BD_MAX_ID);
}

enum bd_entry_state { BD_ENTRY_FREE, BD_ENTRY_LIVE, BD_ENTRY_DELETED, BD_ENTRY_DOUBTFUL };

struct bd_named {
  struct bd_slot slot;
  unsigned char is_b;
};

struct bd_index_entry {
  struct bd_named slots[2]; /* the current version's first; those that cannot be are left out */
  int slot_count;
  uint32_t record_bytes, sequence;
  enum bd_entry_state state;
};

static void bd_read_index(const unsigned char *at, uint32_t seed, uint32_t heap_bytes, struct bd_index_entry *found) {
  const uint32_t flags = bd_u32(at + 16), crc = bd_u32(at + 28);
  const unsigned current_is_b = (flags & BD_CURRENT_IS_B) ? 1 : 0;
  unsigned i;
  memset(found, 0, sizeof *found);
  for (i = 0; i < 2; i++) {
    const unsigned is_b = i == 0 ? current_is_b : 1 - current_is_b;
    const uint32_t start = bd_u32(at + is_b * 8), units = bd_u32(at + is_b * 8 + 4);
    if (units == 0 || (BD_CAST(uint64_t, start) + units) * BD_UNIT > heap_bytes) continue;
    found->slots[found->slot_count].slot.start = start;
    found->slots[found->slot_count].slot.units = units;
    found->slots[found->slot_count++].is_b = BD_CAST(unsigned char, is_b);
  }
  if (flags == 0 && crc == 0 && found->slot_count == 0) return;
  found->state = BD_ENTRY_DOUBTFUL;
  if (crc != bd_crc32c(at, 28, seed)) return;
  if (flags & BD_DELETED) {
    found->state = BD_ENTRY_DELETED;
    found->slot_count = 0;
    return;
  }
  found->record_bytes = bd_u32(at + 20);
  found->sequence = bd_u32(at + 24);
  if (found->slot_count == 0 || found->slots[0].is_b != current_is_b) return;
  if (found->record_bytes >= BD_RECORD && found->record_bytes <= BD_CAST(uint64_t, found->slots[0].slot.units) * BD_UNIT) found->state = BD_ENTRY_LIVE;
}

/* ---------------------------------------------------------------- what stands in a box that is taken over */

struct bd_found {
  struct bd_record record;
  uint32_t position;
  struct bd_slot current, idle;
  unsigned char is_b, rewrite, is_dropped;
};

/* The search for sessions in a box: `docs/layout.md`, rules of reading 3 to 6. Changes nothing there. */
struct bd_search {
  const unsigned char *index, *heap;
  uint32_t sessions_per_box, heap_bytes, seed;
  struct bd_found *found;
  uint32_t count, next;
  uint32_t *table, mask; /* numbers in `found` plus 1, by hash */
  unsigned char *marks;  /* by position: 1 was never used, 2 is in doubt, 4 holds a session */
  uint64_t sequence;
};

static uint32_t bd_hash(uint64_t key, const unsigned char *store, size_t store_bytes, const unsigned char *id, size_t id_bytes) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ key;
  size_t i;
  for (i = 0; i < store_bytes; i++) hash = (hash ^ store[i]) * UINT64_C(0x100000001b3);
  hash *= UINT64_C(0x100000001b3);
  for (i = 0; i < id_bytes; i++) hash = (hash ^ id[i]) * UINT64_C(0x100000001b3);
  hash ^= hash >> 29;
  hash *= UINT64_C(0xbf58476d1ce4e5b9);
  return BD_CAST(uint32_t, hash >> 32);
}

static uint32_t bd_table_size(uint32_t members) {
  uint32_t size = 16;
  while (size < 2 * members) size *= 2;
  return size;
}

/* Is it newer than what is known of this session? Then it is kept. */
static int bd_keep(struct bd_search *search, const struct bd_found *candidate) {
  const unsigned char *names = search->heap + BD_CAST(size_t, candidate->current.start) * BD_UNIT + BD_RECORD;
  const size_t store_bytes = candidate->record.store_bytes, id_bytes = candidate->record.id_bytes;
  uint32_t at = bd_hash(0, names, store_bytes, names + store_bytes, id_bytes) & search->mask;
  for (; search->table[at]; at = (at + 1) & search->mask) {
    struct bd_found *known = &search->found[search->table[at] - 1];
    const unsigned char *others = search->heap + BD_CAST(size_t, known->current.start) * BD_UNIT + BD_RECORD;
    if (known->record.store_bytes != store_bytes || known->record.id_bytes != id_bytes || memcmp(names, others, store_bytes + id_bytes) != 0) continue;
    if (known->record.sequence >= candidate->record.sequence) return 0;
    *known = *candidate;
    break;
  }
  if (!search->table[at]) {
    search->found[search->count] = *candidate;
    search->table[at] = ++search->count;
  }
  if (candidate->record.sequence > search->sequence) search->sequence = candidate->record.sequence;
  return 1;
}

static int bd_take_live(struct bd_search *search, uint32_t position, const struct bd_index_entry *entry) {
  struct bd_found found;
  memset(&found, 0, sizeof found);
  found.current = entry->slots[0].slot;
  found.is_b = entry->slots[0].is_b;
  found.position = position;
  if (entry->slot_count > 1) found.idle = entry->slots[1].slot;
  if (!bd_read_record(search->heap + BD_CAST(size_t, found.current.start) * BD_UNIT, entry->record_bytes, search->seed, &found.record)) return 0;
  if (BD_CAST(uint32_t, found.record.sequence) != entry->sequence || found.record.total != entry->record_bytes) return 0;
  bd_keep(search, &found);
  return 1;
}

/* Of an entry in doubt: whatever stands in its slots proves itself or is nothing, the newest first. */
static void bd_take_newest(struct bd_search *search, uint32_t position, const struct bd_index_entry *entry) {
  struct bd_found found[2];
  int count = 0, i;
  memset(found, 0, sizeof found);
  for (i = 0; i < entry->slot_count; i++) {
    const struct bd_slot slot = entry->slots[i].slot;
    struct bd_found *each = &found[count];
    if (!bd_read_record(search->heap + BD_CAST(size_t, slot.start) * BD_UNIT, BD_CAST(uint64_t, slot.units) * BD_UNIT, search->seed, &each->record)) continue;
    each->current.start = slot.start;
    /* An entry caught in a change may name a longer slot than the record's: the rest is a neighbour's. */
    each->current.units = (each->record.total + BD_UNIT - 1) / BD_UNIT;
    each->position = position;
    each->is_b = entry->slots[i].is_b;
    each->rewrite = 1;
    count++;
  }
  if (count == 2 && found[1].record.sequence > found[0].record.sequence) {
    if (!bd_keep(search, &found[1])) bd_keep(search, &found[0]);
  } else {
    for (i = 0; i < count; i++) {
      if (bd_keep(search, &found[i])) return;
    }
  }
}

struct bd_taken {
  uint32_t start, units, session, number;
  int is_idle;
};

static int bd_compare_taken(const void *left, const void *right) {
  const struct bd_taken *a = BD_CAST(const struct bd_taken *, left), *b = BD_CAST(const struct bd_taken *, right);
  if (a->start != b->start) return a->start < b->start ? -1 : 1;
  return a->number < b->number ? -1 : a->number > b->number;
}

static void bd_drop_idle(struct bd_found *found) {
  found->idle.units = 0;
  found->rewrite = 1;
}

/* Honest slots never overlap. Where some do, a record within another's slot is a part of that one's payload. */
static int bd_drop_overlaps(struct bd_search *search) {
  struct bd_taken *taken = BD_NEW(struct bd_taken, 2 * BD_CAST(size_t, search->count) + 1);
  uint32_t count = 0, i;
  const struct bd_taken *last;
  if (taken == NULL) return 0;
  for (i = 0; i < search->count; i++) {
    const struct bd_found *found = &search->found[i];
    int is_idle;
    for (is_idle = 0; is_idle < 2; is_idle++) {
      const struct bd_slot slot = is_idle ? found->idle : found->current;
      if (slot.units == 0) continue;
      taken[count].start = slot.start;
      taken[count].units = slot.units;
      taken[count].session = i;
      taken[count].number = count;
      taken[count++].is_idle = is_idle;
    }
  }
  qsort(taken, count, sizeof *taken, bd_compare_taken);
  last = taken;
  for (i = 1; i < count; i++) {
    struct bd_found *own = &search->found[taken[i].session];
    if (BD_CAST(uint64_t, taken[i].start) >= BD_CAST(uint64_t, last->start) + last->units) last = &taken[i];
    else if (taken[i].is_idle) bd_drop_idle(own);
    else if (last->is_idle) {
      bd_drop_idle(&search->found[last->session]);
      last = &taken[i];
    } else own->is_dropped = 1;
  }
  free(taken);
  return 1;
}

static void bd_search_free(struct bd_search *search) {
  free(search->found);
  free(search->table);
  free(search->marks);
}

/* 0 where memory ran out. Release it by bd_search_free in any case. */
static int bd_search_box(struct bd_search *search, const backdoors_node *node, uint32_t box, uint32_t seed) {
  const unsigned char *start = node->region + node->boxes_offset + box * node->box_bytes;
  const uint32_t sessions = node->sessions_per_box, size = bd_table_size(sessions);
  struct bd_index_entry entry;
  uint32_t position;
  memset(search, 0, sizeof *search);
  search->index = start + node->index_in_box;
  search->heap = start + node->heap_in_box;
  search->sessions_per_box = sessions;
  search->heap_bytes = node->heap_bytes;
  search->seed = seed;
  search->found = BD_NEW(struct bd_found, sessions);
  search->table = BD_NEW(uint32_t, size);
  search->mask = size - 1;
  search->marks = BD_NEW(unsigned char, sessions);
  if (search->found == NULL || search->table == NULL || search->marks == NULL) return 0;
  for (position = 0; position < sessions; position++) {
    bd_read_index(search->index + BD_CAST(size_t, position) * BD_INDEX, seed, search->heap_bytes, &entry);
    if (entry.state == BD_ENTRY_FREE) search->marks[position] |= 1;
    else search->next = position + 1;
    if (entry.state == BD_ENTRY_DOUBTFUL || (entry.state == BD_ENTRY_LIVE && !bd_take_live(search, position, &entry))) search->marks[position] |= 2;
  }
  /* What is certain comes first: an entry in doubt may name a slot that is another session's by now. */
  for (position = 0; position < search->next; position++) {
    if (!(search->marks[position] & 2)) continue;
    bd_read_index(search->index + BD_CAST(size_t, position) * BD_INDEX, seed, search->heap_bytes, &entry);
    bd_take_newest(search, position, &entry);
  }
  return bd_drop_overlaps(search);
}

/* ---------------------------------------------------------------- taking a box */

static uint32_t bd_box_seed(uint64_t incarnation, uint32_t box) {
  unsigned char binding[12];
  bd_put64(binding, incarnation);
  bd_put32(binding + 8, box);
  return bd_crc32c(binding, sizeof binding, 0);
}

/*
 * Empties a box that had another owner. Sequences go on from where it was, also when this is cut short, for a session's
 * origin names its sequence, and no two of them may be the same.
 */
static int bd_wipe(const backdoors_node *node, uint32_t box, const struct bd_entry *previous, uint64_t *floor) {
  struct bd_search search;
  struct bd_entry left = *previous;
  const int searched = bd_search_box(&search, node, box, bd_box_seed(node->incarnation, box));
  *floor = search.sequence > previous->sequence_floor ? search.sequence : previous->sequence_floor;
  bd_search_free(&search);
  if (!searched) {
    errno = ENOMEM;
    return BACKDOORS_SYSTEM_CALL_FAILED;
  }
  left.sequence_floor = *floor;
  if (previous->state != BD_FREE) bd_write_entry(bd_entry_at(node, box), &left);
  memset(node->region + node->boxes_offset + box * node->box_bytes + node->index_in_box, 0, BD_CAST(size_t, node->sessions_per_box) * BD_INDEX);
  return 0;
}

/*
 * Opens a new generation in a box that is locked, and only then looks at the fence: either this process sees the
 * recoverer's fence, or the recoverer sees the new generation, and fences that too. 1: it is taken; 0: it is somebody else's.
 */
static int bd_open_generation(backdoors_node *node, uint32_t box) {
  unsigned char *at = bd_entry_at(node, box);
  struct bd_entry previous, entry, left;
  uint32_t fence;
  int is_fenced, sessions_are_owed, status;
  if (!bd_read_entry(at, &previous)) return 0;
  fence = bd_fence(node, box);
  is_fenced = previous.generation > 0 && fence >= previous.generation;
  /* The entry may have changed since it was looked at: whoever took the box meanwhile and died has left sessions in it. */
  sessions_are_owed = is_fenced ? !bd_is_recovered(node, box) : previous.state == BD_OPEN && !bd_has_name(node, &previous);
  memset(&entry, 0, sizeof entry);
  entry.generation = previous.generation > fence ? previous.generation : fence;
  if (sessions_are_owed || entry.generation >= BD_FENCE_ALL - 1) return 0;
  entry.generation++;
  entry.state = BD_OPEN;
  entry.pid = BD_CAST(uint32_t, getpid());
  entry.sequence_floor = previous.sequence_floor;
  entry.name_bytes = BD_CAST(uint32_t, strlen(node->name));
  memcpy(entry.name, node->name, entry.name_bytes);
  if (is_fenced || !bd_has_name(node, &previous)) {
    status = bd_wipe(node, box, &previous, &entry.sequence_floor);
    if (status != 0) return status;
  }
  /* The sensors of the owner before would never move again, and be taken for this one's. */
  memset(node->region + node->boxes_offset + box * node->box_bytes, 0, BD_CAST(size_t, node->sensors_per_box) * BD_CELL);
  left = previous;
  if (entry.sequence_floor > left.sequence_floor) left.sequence_floor = entry.sequence_floor;
  bd_write_entry(at, &entry);
  if (bd_fence(node, box) != fence || bd_fence(node, BD_NONE) != 0) {
    /* Fenced in between: what is in the box is the recoverer's, under the generation that it was written in. */
    bd_write_entry(at, &left);
    return 0;
  }
  /* Of two processes that start under one name at the same time, one at least sees the other. */
  status = bd_check_name_is_free(node, box);
  if (status != 0) {
    bd_write_entry(at, &left);
    return status;
  }
  node->box = box;
  node->generation = entry.generation;
  node->sequence = entry.sequence_floor;
  return 1;
}

/* Which boxes to try: 1 the one that bears the name already, 2 the never used, 3 those that were left; 0 none of these. */
static unsigned char bd_rank(const backdoors_node *node, uint32_t box) {
  struct bd_entry entry;
  const int is_readable = bd_read_entry(bd_entry_at(node, box), &entry);
  /* A server that was fenced goes on in another box, and what is in that one counts from then on. */
  if (is_readable && bd_has_name(node, &entry) && bd_fence(node, box) < entry.generation) return 1;
  if (is_readable && entry.state == BD_FREE) return 2;
  return (is_readable && entry.state == BD_CLOSED) || bd_is_recovered(node, box) ? 3 : 0;
}

static int bd_take_box(backdoors_node *node) {
  unsigned char ranks[BD_MAX_BOXES] = {0}, rank;
  uint32_t box;
  int status;
  if (bd_fence(node, BD_NONE) != 0) return BACKDOORS_FENCED;
  status = bd_check_name_is_free(node, BD_NONE);
  if (status != 0) return status;
  for (box = 1; box < node->box_count; box++) ranks[box] = bd_rank(node, box);
  for (rank = 1; rank <= 3; rank++) {
    for (box = 1; box < node->box_count; box++) {
      if (ranks[box] != rank) continue;
      if (bd_lock(node, box, F_OFD_SETLK, F_WRLCK, NULL) != 0) {
        if (errno == EAGAIN || errno == EACCES) continue;
        return BACKDOORS_SYSTEM_CALL_FAILED;
      }
      status = bd_open_generation(node, box);
      if (status == 1) return 0;
      bd_lock(node, box, F_OFD_SETLK, F_UNLCK, NULL);
      if (status != 0) return status;
    }
  }
  return BACKDOORS_BOXES_EXHAUSTED;
}

static uint64_t bd_round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/* Computes every offset from the header's four numbers, and takes a header that says otherwise for corrupt. */
static int bd_read_header(backdoors_node *node, const unsigned char *at) {
  uint64_t boxes_offset, region_bytes, heap_bytes;
  const uint32_t node_bytes = bd_u32(at + 96), cluster_bytes = bd_u32(at + 164);
  if (memcmp(at, "BACKDOOR", 8) != 0) return BACKDOORS_REGION_CORRUPT;
  if (bd_u32(at + 8) != BD_VERSION) return BACKDOORS_LAYOUT_UNSUPPORTED;
  if (bd_u32(at + 4092) != bd_crc32c(at, 4092, 0)) return BACKDOORS_REGION_CORRUPT;
  node->incarnation = bd_u64(at + 16);
  node->box_count = bd_u32(at + 56);
  node->sensors_per_box = bd_u32(at + 80);
  node->sessions_per_box = bd_u32(at + 84);
  heap_bytes = bd_u64(at + 88);
  if (node->incarnation == 0 || node->box_count < 2 || node->box_count > BD_MAX_BOXES || node->sensors_per_box < 1 || node->sensors_per_box > 4096 ||
      node->sessions_per_box < 1 || node->sessions_per_box > (1u << 24) || heap_bytes < BD_UNIT || heap_bytes > BD_MAX_REGION || heap_bytes % BD_UNIT != 0) {
    return BACKDOORS_REGION_CORRUPT;
  }
  node->heap_bytes = BD_CAST(uint32_t, heap_bytes);
  boxes_offset = BD_DIRECTORY + bd_round_up(BD_CAST(uint64_t, node->box_count) * BD_ENTRY, BD_PAGE);
  node->index_in_box = BD_CAST(uint64_t, node->sensors_per_box) * BD_CELL;
  node->heap_in_box = bd_round_up(node->index_in_box + BD_CAST(uint64_t, node->sessions_per_box) * BD_INDEX, BD_UNIT);
  node->box_bytes = bd_round_up(node->heap_in_box + heap_bytes, BD_PAGE);
  node->boxes_offset = boxes_offset;
  region_bytes = boxes_offset + node->box_count * node->box_bytes;
  if (region_bytes > BD_MAX_REGION || bd_u32(at + 12) != BD_PAGE || bd_u64(at + 24) != region_bytes || bd_u64(at + 32) != BD_CONTROL ||
      bd_u64(at + 40) != BD_PAGE || bd_u64(at + 48) != BD_DIRECTORY || bd_u32(at + 60) != BD_ENTRY || bd_u64(at + 64) != boxes_offset || bd_u64(at + 72) != node->box_bytes) {
    return BACKDOORS_REGION_CORRUPT;
  }
  if (!bd_is_text(at + 100, node_bytes, BD_MAX_NAME) || !bd_is_text(at + 168, cluster_bytes, BD_MAX_NAME)) return BACKDOORS_REGION_CORRUPT;
  memcpy(node->node_name, at + 100, node_bytes);
  node->region_bytes = BD_CAST(size_t, region_bytes);
  return 0;
}

/* Maps the region by a descriptor of its own: a mapping holds the description it was made from, and the locks with it. */
static int bd_map(backdoors_node *node) {
  unsigned char header[BD_PAGE];
  struct stat status;
  ssize_t got;
  void *mapped;
  int result, fd = open(node->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return errno == ENOENT ? BACKDOORS_REGION_NOT_FOUND : BACKDOORS_SYSTEM_CALL_FAILED;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return BACKDOORS_INVALID_ARGUMENT;
  }
  got = pread(fd, header, sizeof header, 0);
  if (got < 0) result = BACKDOORS_SYSTEM_CALL_FAILED;
  else result = BD_CAST(size_t, got) < sizeof header ? BACKDOORS_REGION_TRUNCATED : bd_read_header(node, header);
  if (result == 0 && BD_CAST(uint64_t, status.st_size) < node->region_bytes) result = BACKDOORS_REGION_TRUNCATED;
  if (result == 0) {
    mapped = mmap(NULL, node->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) result = BACKDOORS_SYSTEM_CALL_FAILED;
    else node->region = BD_CAST(unsigned char *, mapped);
  }
  close(fd);
  if (result != 0) return result;
  node->lock_fd = open(node->path, O_RDWR | O_CLOEXEC);
  return node->lock_fd < 0 ? BACKDOORS_SYSTEM_CALL_FAILED : 0;
}

/* ---------------------------------------------------------------- sessions: the account of them outside shared memory */

static int bd_store_number(backdoors_node *node, const char *name, size_t bytes, uint16_t *number) {
  struct bd_store *grown;
  uint32_t i;
  for (i = 0; i < node->store_count; i++) {
    if (node->stores[i].bytes != bytes || memcmp(node->stores[i].name, name, bytes) != 0) continue;
    *number = BD_CAST(uint16_t, i);
    return 0;
  }
  if (!bd_is_text(bd_bytes(name), bytes, BD_MAX_NAME) || node->store_count == UINT16_MAX) return BACKDOORS_INVALID_ARGUMENT;
  grown = BD_CAST(struct bd_store *, realloc(node->stores, (node->store_count + 1) * sizeof *grown));
  if (grown == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  node->stores = grown;
  memset(&grown[node->store_count], 0, sizeof *grown);
  memcpy(grown[node->store_count].name, name, bytes);
  grown[node->store_count].bytes = BD_CAST(uint16_t, bytes);
  *number = BD_CAST(uint16_t, node->store_count++);
  return 0;
}

/* Where the session stands, or BD_NONE. */
static uint32_t bd_find(const backdoors_node *node, uint16_t store, const char *id, size_t id_bytes, uint32_t *hash) {
  const struct bd_store *named = &node->stores[store];
  uint32_t at;
  *hash = bd_hash(node->hash_key, bd_bytes(named->name), named->bytes, bd_bytes(id), id_bytes);
  for (at = *hash & node->table_mask; node->table[at]; at = (at + 1) & node->table_mask) {
    const struct bd_held *held = &node->held[node->table[at] - 1];
    if (held->hash == *hash && held->store == store && held->id_bytes == id_bytes && memcmp(held->prefix + held->store_bytes, id, id_bytes) == 0) return node->table[at] - 1;
  }
  return BD_NONE;
}

static void bd_enlist(backdoors_node *node, uint32_t position) {
  struct bd_held *held = &node->held[position];
  struct bd_store *store = &node->stores[held->store];
  uint32_t at = held->hash & node->table_mask;
  while (node->table[at]) at = (at + 1) & node->table_mask;
  node->table[at] = position + 1;
  held->previous = store->last;
  held->next = 0;
  if (store->last) node->held[store->last - 1].next = position + 1;
  else store->first = position + 1;
  store->last = position + 1;
}

static void bd_delist(backdoors_node *node, uint32_t position) {
  const struct bd_held *held = &node->held[position];
  struct bd_store *store = &node->stores[held->store];
  const uint32_t mask = node->table_mask;
  uint32_t hole = held->hash & mask, at;
  while (node->table[hole] != position + 1) hole = (hole + 1) & mask;
  /* Whoever stands behind the hole, and could have stood in it, moves up. */
  for (at = (hole + 1) & mask; node->table[at]; at = (at + 1) & mask) {
    const uint32_t home = node->held[node->table[at] - 1].hash & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    node->table[hole] = node->table[at];
    hole = at;
  }
  node->table[hole] = 0;
  if (held->previous) node->held[held->previous - 1].next = held->next;
  else store->first = held->next;
  if (held->next) node->held[held->next - 1].previous = held->previous;
  else store->last = held->previous;
}

static unsigned char *bd_slot_at(const backdoors_node *node, struct bd_slot slot) { return node->heap_base + BD_CAST(size_t, slot.start) * BD_UNIT; }

/* A record without a store's name is none. The CRC goes too, lest the next record's lengths bring this one back. */
static void bd_invalidate(const backdoors_node *node, struct bd_slot slot) {
  unsigned char *at = bd_slot_at(node, slot);
  bd_put32(at, 0);
  bd_put32(at + 32, 0);
  bd_barrier();
}

static void bd_write_index(const backdoors_node *node, uint32_t position, uint32_t flags, uint32_t record_bytes) {
  const struct bd_held *held = &node->held[position];
  unsigned char *at = node->index + BD_CAST(size_t, position) * BD_INDEX;
  const struct bd_slot a = held->current_is_b ? held->idle : held->current;
  const struct bd_slot b = held->current_is_b ? held->current : held->idle;
  /* A slot that is none loses its length only: an offset of 0 is the slot of another session. */
  if (a.units != 0) bd_put32(at, a.start);
  bd_put32(at + 4, a.units);
  if (b.units != 0) bd_put32(at + 8, b.start);
  bd_put32(at + 12, b.units);
  bd_put32(at + 16, flags);
  bd_put32(at + 20, record_bytes);
  bd_release();
  bd_put32(at + 28, bd_crc32c(at, 28, node->seed));
}

static uint32_t bd_live_flags(const struct bd_held *held) { return BD_USED | (held->current_is_b ? BD_CURRENT_IS_B : 0u); }

static void bd_put_sequence(const backdoors_node *node, uint32_t position, uint64_t sequence) {
  bd_put32(node->index + BD_CAST(size_t, position) * BD_INDEX + 24, BD_CAST(uint32_t, sequence));
}

static int bd_hold(backdoors_node *node, const struct bd_found *found) {
  struct bd_held *held = &node->held[found->position];
  const unsigned char *prefix = bd_slot_at(node, found->current) + BD_RECORD;
  const struct bd_record *record = &found->record;
  const size_t prefix_bytes = BD_CAST(size_t, record->store_bytes) + record->id_bytes + record->origin_bytes;
  const int status = bd_store_number(node, bd_chars(prefix), record->store_bytes, &held->store);
  if (status != 0) return status;
  held->prefix = BD_NEW(unsigned char, prefix_bytes);
  if (held->prefix == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  memcpy(held->prefix, prefix, prefix_bytes);
  held->store_bytes = record->store_bytes;
  held->id_bytes = record->id_bytes;
  held->origin_bytes = record->origin_bytes;
  held->expires_at_ms = record->ttl_ms > 0 ? record->committed_at_ms + record->ttl_ms : BD_NEVER;
  held->current = found->current;
  held->idle = found->idle;
  held->record_bytes = record->total;
  held->current_is_b = found->is_b;
  held->hash = bd_hash(node->hash_key, prefix, record->store_bytes, prefix + record->store_bytes, record->id_bytes);
  bd_enlist(node, found->position);
  /* The slot keeps its place in the entry, so that it is named at every instant of this, too. */
  if (found->rewrite) {
    bd_put_sequence(node, found->position, record->sequence);
    bd_write_index(node, found->position, bd_live_flags(held), record->total);
  }
  return 0;
}

/* What is between the sessions' slots is free. */
static int bd_count_heap(backdoors_node *node, const struct bd_search *search) {
  struct bd_taken *taken = BD_NEW(struct bd_taken, 2 * BD_CAST(size_t, search->count) + 1);
  uint32_t count = 0, i, pairs = 0, end = 0;
  if (taken == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  for (i = 0; i < search->count; i++) {
    const struct bd_found *found = &search->found[i];
    if (found->is_dropped) continue;
    taken[count].start = found->current.start;
    taken[count].number = count;
    taken[count++].units = found->current.units;
    if (found->idle.units == 0) continue;
    taken[count].start = found->idle.start;
    taken[count].number = count;
    taken[count++].units = found->idle.units;
  }
  qsort(taken, count, sizeof *taken, bd_compare_taken);
  for (i = 0; i < count; i++) {
    if (taken[i].start > end) pairs = bd_heap_note(&node->heap, pairs, end, taken[i].start - end);
    if (taken[i].start + taken[i].units > end) end = taken[i].start + taken[i].units;
  }
  if (end < node->heap.total) pairs = bd_heap_note(&node->heap, pairs, end, node->heap.total - end);
  if (count > 0) bd_heap_set(&node->heap, pairs);
  free(taken);
  return 0;
}

/* Takes over whatever valid sessions the box holds. */
static int bd_take_over_box(backdoors_node *node) {
  struct bd_search search;
  uint32_t i, position;
  int status = bd_search_box(&search, node, node->box, node->seed) ? 0 : BACKDOORS_SYSTEM_CALL_FAILED;
  if (status == 0) {
    if (search.sequence > node->sequence) node->sequence = search.sequence;
    node->next_position = search.next;
    status = bd_count_heap(node, &search);
  }
  for (i = 0; i < search.count && status == 0; i++) {
    if (search.found[i].is_dropped) continue;
    search.marks[search.found[i].position] |= 4;
    status = bd_hold(node, &search.found[i]);
  }
  /* Only when all that is kept has its entry, so that it is named by one at every instant of this. */
  bd_release();
  for (position = search.next; position > 0 && status == 0; position--) {
    const unsigned char mark = search.marks[position - 1];
    if (mark & 4) continue;
    if (!(mark & 1)) memset(node->index + BD_CAST(size_t, position - 1) * BD_INDEX, 0, BD_INDEX);
    node->free_positions[node->free_count++] = position - 1;
  }
  bd_barrier();
  bd_search_free(&search);
  return status;
}

static int bd_make_account(backdoors_node *node) {
  const uint32_t size = bd_table_size(node->sessions_per_box);
  node->held = BD_NEW(struct bd_held, node->sessions_per_box);
  node->table = BD_NEW(uint32_t, size);
  node->table_mask = size - 1;
  node->free_positions = BD_NEW(uint32_t, node->sessions_per_box);
  node->sensor_names = BD_CAST(char (*)[17], calloc(node->sensors_per_box, 17));
  /* Ids come from clients: without a key they could choose them to collide. */
  if (getrandom(&node->hash_key, sizeof node->hash_key, GRND_NONBLOCK) < 0) node->hash_key = node->incarnation ^ BACKDOORS_CLOCK_MS();
  if (node->held && node->table && node->free_positions && node->sensor_names && bd_heap_make(&node->heap, node->heap_bytes)) return 0;
  errno = ENOMEM;
  return BACKDOORS_SYSTEM_CALL_FAILED;
}

/* Everything but the word in the directory: as if the process had ended. */
static void bd_dispose(backdoors_node *node) {
  const int error = errno;
  uint32_t i;
  for (i = 0; node->held != NULL && i < node->sessions_per_box && i < node->next_position; i++) free(node->held[i].prefix);
  free(node->held);
  free(node->table);
  free(node->free_positions);
  free(node->stores);
  free(node->sensor_names);
  bd_heap_release(&node->heap);
  if (node->region != NULL) munmap(node->region, node->region_bytes);
  if (node->lock_fd >= 0) close(node->lock_fd);
  if (node->socket_fd >= 0) close(node->socket_fd);
  free(node->in.bytes);
  free(node->out.bytes);
  free(node->path);
  free(node);
  errno = error;
}

BACKDOORS_API int backdoors_attach(backdoors_node **attached, const char *region, const char *name) {
  backdoors_node *node;
  int status;
  *attached = NULL;
  if (!bd_is_text(bd_bytes(name), strlen(name), BD_MAX_NAME)) return BACKDOORS_INVALID_ARGUMENT;
  bd_make_crc_tables();
  node = BD_NEW(backdoors_node, 1);
  if (node == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  node->lock_fd = node->socket_fd = -1;
  node->retry_ms = BD_FIRST_RETRY_MS;
  memcpy(node->name, name, strlen(name));
  node->path = strdup(region);
  status = node->path == NULL ? BACKDOORS_SYSTEM_CALL_FAILED : bd_map(node);
  if (status == 0) status = bd_make_account(node);
  if (status == 0) status = bd_take_box(node);
  if (status == 0) {
    unsigned char *start = node->region + node->boxes_offset + node->box * node->box_bytes;
    node->seed = bd_box_seed(node->incarnation, node->box);
    node->entry = bd_entry_at(node, node->box);
    node->sensors = start;
    node->index = start + node->index_in_box;
    node->heap_base = start + node->heap_in_box;
    status = bd_take_over_box(node);
  }
  if (status != 0) {
    bd_dispose(node);
    return status;
  }
  *attached = node;
  return 0;
}

BACKDOORS_API void backdoors_close(backdoors_node *node) {
  struct bd_entry entry;
  if (node == NULL) return;
  if (!node->is_child) {
    memset(&entry, 0, sizeof entry);
    entry.generation = node->generation;
    entry.pid = BD_CAST(uint32_t, getpid());
    entry.sequence_floor = node->sequence;
    entry.name_bytes = BD_CAST(uint32_t, strlen(node->name));
    memcpy(entry.name, node->name, entry.name_bytes);
    entry.state = BD_CLOSED;
    if (!backdoors_fenced(node)) bd_write_entry(node->entry, &entry);
    /* A box that is fenced stays open, for its sessions are somebody's to recover. */
    entry.state = BD_OPEN;
    if (backdoors_fenced(node)) bd_write_entry(node->entry, &entry);
  }
  bd_dispose(node);
}

BACKDOORS_API void backdoors_forked(backdoors_node *node) {
  if (node->lock_fd >= 0) close(node->lock_fd);
  if (node->socket_fd >= 0) close(node->socket_fd);
  node->lock_fd = node->socket_fd = -1;
  node->is_child = 1;
}

BACKDOORS_API const char *backdoors_node_name(const backdoors_node *node) { return node->node_name; }
BACKDOORS_API uint32_t backdoors_box(const backdoors_node *node) { return node->box; }
BACKDOORS_API uint32_t backdoors_generation(const backdoors_node *node) { return node->generation; }

/* ---------------------------------------------------------------- sensors */

static int bd_sensor(backdoors_node *node, const char *name, uint32_t kind, uint32_t deadline_us, backdoors_sensor *sensor) {
  const size_t bytes = strlen(name);
  unsigned char *cell;
  uint32_t i;
  if (!bd_is_text(bd_bytes(name), bytes, 16)) return BACKDOORS_INVALID_ARGUMENT;
  sensor->node = node;
  for (i = 0; i < node->sensor_count; i++) {
    if (strcmp(node->sensor_names[i], name) != 0) continue;
    sensor->cell = node->sensors + BD_CAST(size_t, i) * BD_CELL;
    return 0;
  }
  if (node->sensor_count >= node->sensors_per_box) return BACKDOORS_SENSORS_EXHAUSTED;
  sensor->cell = cell = node->sensors + BD_CAST(size_t, node->sensor_count) * BD_CELL;
  memcpy(node->sensor_names[node->sensor_count++], name, bytes + 1);
  memset(cell, 0, BD_CELL);
  bd_put32(cell + 4, 1);
  bd_put32(cell + 32, kind);
  bd_put32(cell + 36, deadline_us);
  bd_put32(cell + 40, BD_CAST(uint32_t, bytes));
  memcpy(cell + 44, name, bytes);
  bd_release();
  bd_put32(cell + 60, bd_crc32c(cell + 32, 28, node->seed));
  return 0;
}

BACKDOORS_API int backdoors_progress(backdoors_node *node, const char *name, uint32_t deadline_us, backdoors_sensor *sensor) {
  return bd_sensor(node, name, 1, deadline_us, sensor);
}

BACKDOORS_API int backdoors_gauge(backdoors_node *node, const char *name, int is_pressure, backdoors_sensor *sensor) {
  return bd_sensor(node, name, is_pressure ? 3 : 2, 0, sensor);
}

BACKDOORS_API int backdoors_beat(const backdoors_sensor *sensor) {
  if (backdoors_fenced(sensor->node)) return BACKDOORS_FENCED;
  bd_put32(sensor->cell, bd_u32(sensor->cell) + 1);
  return 0;
}

BACKDOORS_API void backdoors_pending(const backdoors_sensor *sensor, uint32_t count) { bd_put32(sensor->cell + 4, count); }

BACKDOORS_API void backdoors_level(const backdoors_sensor *sensor, double value, double limit) {
  memcpy(sensor->cell + 8, &value, sizeof value);
  memcpy(sensor->cell + 16, &limit, sizeof limit);
}

/* ---------------------------------------------------------------- commit, get, delete */

/* `docs/layout.md`, rule of writing 5. FENCED: the outcome is unknown. */
static int bd_delete_at(backdoors_node *node, uint32_t position) {
  struct bd_held *held = &node->held[position];
  const struct bd_slot idle = held->idle, current = held->current;
  if (backdoors_fenced(node)) return BACKDOORS_FENCED;
  bd_put_sequence(node, position, ++node->sequence);
  bd_write_index(node, position, BD_USED | BD_DELETED, 0);
  bd_release();
  /* Even a damaged entry must not bring the session back, so its versions are made invalid too: the older one first, and
   * seen to be so, for else it might be found in the place of the newer one. */
  if (idle.units != 0) {
    bd_invalidate(node, idle);
    bd_heap_free(&node->heap, idle.start, idle.units);
  }
  bd_invalidate(node, current);
  bd_heap_free(&node->heap, current.start, current.units);
  bd_delist(node, position);
  free(held->prefix);
  memset(held, 0, sizeof *held);
  node->free_positions[node->free_count++] = position;
  return backdoors_fenced(node) ? BACKDOORS_FENCED : 0;
}

/* How many were dropped, or FENCED. */
static int bd_sweep_all_but(backdoors_node *node, uint32_t kept) {
  const uint64_t now_ms = BACKDOORS_CLOCK_MS();
  uint32_t i, at, next;
  int swept = 0;
  for (i = 0; i < node->store_count; i++) {
    for (at = node->stores[i].first; at; at = next) {
      next = node->held[at - 1].next;
      if (at - 1 == kept || now_ms < node->held[at - 1].expires_at_ms) continue;
      if (bd_delete_at(node, at - 1) != 0) return BACKDOORS_FENCED;
      swept++;
    }
  }
  return swept;
}

BACKDOORS_API int backdoors_sweep(backdoors_node *node) { return backdoors_fenced(node) ? BACKDOORS_FENCED : bd_sweep_all_but(node, BD_NONE); }

static uint32_t bd_take_position(backdoors_node *node) {
  if (node->free_count > 0) return node->free_positions[--node->free_count];
  return node->next_position < node->sessions_per_box ? node->next_position++ : BD_NONE;
}

/* Makes room for a session that is not there yet. It has no version until its first commit is published. */
static int bd_begin(backdoors_node *node, uint16_t store, const char *id, size_t id_bytes, uint32_t hash, uint32_t *position) {
  const size_t store_bytes = node->stores[store].bytes;
  struct bd_held *held;
  unsigned char *prefix;
  int swept;
  if (!bd_is_text(bd_bytes(id), id_bytes, BD_MAX_ID)) return BACKDOORS_SESSION_ID_INVALID;
  /* Copied first: the id may be a view of a session that is swept for this one. */
  prefix = BD_NEW(unsigned char, store_bytes + id_bytes);
  if (prefix == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  memcpy(prefix, node->stores[store].name, store_bytes);
  memcpy(prefix + store_bytes, id, id_bytes);
  *position = bd_take_position(node);
  if (*position == BD_NONE) {
    swept = bd_sweep_all_but(node, BD_NONE);
    if (swept > 0) *position = bd_take_position(node);
    if (*position == BD_NONE) {
      free(prefix);
      return swept < 0 ? swept : BACKDOORS_BOX_FULL;
    }
  }
  held = &node->held[*position];
  memset(held, 0, sizeof *held);
  held->prefix = prefix;
  held->store = store;
  held->store_bytes = BD_CAST(uint16_t, store_bytes);
  held->id_bytes = BD_CAST(uint16_t, id_bytes);
  held->hash = hash;
  held->current_is_b = 1;
  return 0;
}

/* A commit that came to nothing leaves no session behind that has no version. */
static int bd_give_up(backdoors_node *node, uint32_t position, int error) {
  if (node->held[position].current.units != 0) return error;
  free(node->held[position].prefix);
  memset(&node->held[position], 0, sizeof node->held[position]);
  node->free_positions[node->free_count++] = position;
  return error;
}

/* A slot instead of one too small, which is given back only then. BD_NONE where there is none. */
static uint32_t bd_exchange(backdoors_node *node, struct bd_slot small, uint32_t bytes, uint32_t *units) {
  uint32_t found;
  if (small.units == 0) return bd_heap_allocate(&node->heap, bytes, units);
  bd_heap_free(&node->heap, small.start, small.units);
  found = bd_heap_allocate(&node->heap, bytes, units);
  if (found == BD_NONE) bd_heap_retake(&node->heap, small.start, small.units);
  /* What is left in a free slot must never be found again, so it is gone before the slot is anybody's. */
  else bd_invalidate(node, small);
  return found;
}

/*
 * A slot for the next version. Where the idle one is too small it is given back for it, and only then, for the index entry
 * names it until the next version is published: a slot that an entry names is never another session's.
 */
static int bd_grow_idle(backdoors_node *node, uint32_t position, uint64_t record_bytes) {
  struct bd_held *held = &node->held[position];
  const uint64_t limit = node->heap_bytes / 2 / BD_UNIT * BD_UNIT;
  uint32_t start, units = 0;
  int swept;
  if (record_bytes > limit) return BACKDOORS_SESSION_TOO_LARGE;
  start = bd_exchange(node, held->idle, BD_CAST(uint32_t, record_bytes), &units);
  if (start == BD_NONE) {
    swept = bd_sweep_all_but(node, position);
    if (swept < 0) return swept;
    if (swept > 0) start = bd_exchange(node, held->idle, BD_CAST(uint32_t, record_bytes), &units);
  }
  if (start == BD_NONE) return BACKDOORS_BOX_FULL;
  held->idle.start = start;
  held->idle.units = units;
  return 0;
}

static int bd_set_origin(struct bd_held *held, const unsigned char *origin, size_t origin_bytes) {
  const size_t names = BD_CAST(size_t, held->store_bytes) + held->id_bytes;
  unsigned char *prefix = BD_CAST(unsigned char *, realloc(held->prefix, names + origin_bytes));
  if (prefix == NULL) return BACKDOORS_SYSTEM_CALL_FAILED;
  memcpy(prefix + names, origin, origin_bytes);
  held->prefix = prefix;
  held->origin_bytes = BD_CAST(uint16_t, origin_bytes);
  return 0;
}

static void bd_write_record(backdoors_node *node, struct bd_held *held, const void *payload, size_t payload_bytes, const backdoors_options *options) {
  unsigned char *at = bd_slot_at(node, held->idle);
  const size_t prefix_bytes = BD_CAST(size_t, held->store_bytes) + held->id_bytes + held->origin_bytes;
  const uint64_t now_ms = BACKDOORS_CLOCK_MS();
  held->expires_at_ms = options->ttl_ms > 0 ? now_ms + options->ttl_ms : BD_NEVER;
  bd_put32(at + 4, options->schema_version);
  bd_put64(at + 8, ++node->sequence);
  bd_put64(at + 16, now_ms);
  bd_put32(at + 24, BD_CAST(uint32_t, payload_bytes));
  bd_put32(at + 28, options->ttl_ms);
  bd_put32(at + 32, held->store_bytes | (BD_CAST(uint32_t, held->id_bytes) << 16));
  bd_put32(at + 36, held->origin_bytes);
  /* All of it anew each time: what has been damaged in the slot meanwhile must not get a CRC that is right. */
  bd_put64(at + 40, 0);
  memcpy(at + BD_RECORD, held->prefix, prefix_bytes);
  if (payload_bytes > 0) memcpy(at + BD_RECORD + prefix_bytes, payload, payload_bytes);
  bd_release();
  bd_put32(at, bd_crc32c(at + 4, BD_RECORD + prefix_bytes + payload_bytes - 4, node->seed));
  bd_release();
}

static void bd_publish(backdoors_node *node, uint32_t position, uint32_t record_bytes) {
  struct bd_held *held = &node->held[position];
  const struct bd_slot before = held->current;
  held->current = held->idle;
  held->idle = before;
  held->current_is_b = !held->current_is_b;
  held->record_bytes = record_bytes;
  bd_put_sequence(node, position, node->sequence);
  bd_write_index(node, position, bd_live_flags(held), record_bytes);
  if (before.units == 0) bd_enlist(node, position);
  bd_barrier();
}

static int bd_commit(backdoors_node *node, uint16_t store, const char *id, size_t id_bytes, const void *payload, size_t payload_bytes,
                     const backdoors_options *options, const unsigned char *origin, size_t origin_bytes) {
  uint32_t hash, position;
  uint64_t record_bytes;
  struct bd_held *held;
  int status;
  if (backdoors_fenced(node)) return BACKDOORS_FENCED;
  position = bd_find(node, store, id, id_bytes, &hash);
  if (position == BD_NONE) {
    status = bd_begin(node, store, id, id_bytes, hash, &position);
    if (status != 0) return status;
  }
  held = &node->held[position];
  record_bytes = BD_CAST(uint64_t, BD_RECORD) + held->store_bytes + held->id_bytes + (origin != NULL ? origin_bytes : held->origin_bytes) + payload_bytes;
  if (BD_CAST(uint64_t, held->idle.units) * BD_UNIT < record_bytes) {
    status = bd_grow_idle(node, position, record_bytes);
    if (status != 0) return bd_give_up(node, position, status);
  }
  if (origin != NULL) {
    status = bd_set_origin(held, origin, origin_bytes);
    if (status != 0) {
      if (held->current.units == 0) bd_heap_free(&node->heap, held->idle.start, held->idle.units);
      return bd_give_up(node, position, status);
    }
  }
  bd_write_record(node, held, payload, payload_bytes, options);
  bd_publish(node, position, BD_CAST(uint32_t, record_bytes));
  return backdoors_fenced(node) ? BACKDOORS_FENCED : 0;
}

static int bd_named_store(backdoors_node *node, const char *store, uint16_t *number) {
  if (strcmp(store, BD_NOTES) == 0) return BACKDOORS_INVALID_ARGUMENT;
  return bd_store_number(node, store, strlen(store), number);
}

BACKDOORS_API int backdoors_commit(backdoors_node *node, const char *store, const char *id, size_t id_bytes, const void *payload,
                                   size_t payload_bytes, const backdoors_options *options) {
  static const backdoors_options defaults = {0, 1};
  uint16_t number;
  const int status = bd_named_store(node, store, &number);
  if (status != 0) return status;
  return bd_commit(node, number, id, id_bytes, payload, payload_bytes, options != NULL ? options : &defaults, NULL, 0);
}

/* Fills in what is known of the session at this position, and checks it. */
static int bd_tell(const backdoors_node *node, uint32_t position, backdoors_session *session) {
  const struct bd_held *held = &node->held[position];
  const unsigned char *at = bd_slot_at(node, held->current);
  const uint64_t now_ms = BACKDOORS_CLOCK_MS();
  struct bd_record record;
  memset(session, 0, sizeof *session);
  session->store = bd_chars(held->prefix);
  session->store_bytes = held->store_bytes;
  session->id = session->store + held->store_bytes;
  session->id_bytes = held->id_bytes;
  if (!bd_read_record(at, held->record_bytes, node->seed, &record)) return BACKDOORS_RECORD_CORRUPT;
  if (now_ms >= held->expires_at_ms) return BACKDOORS_SESSION_NOT_FOUND;
  if (held->origin_bytes > BD_ORIGIN) {
    session->from = session->id + held->id_bytes + BD_ORIGIN;
    session->from_bytes = held->origin_bytes - BD_ORIGIN;
  }
  session->payload = at + record.total - record.payload_bytes;
  session->payload_bytes = record.payload_bytes;
  session->sequence = record.sequence;
  session->schema_version = record.schema_version;
  session->ttl_ms = record.ttl_ms;
  session->remaining_ms = held->expires_at_ms == BD_NEVER ? 0 : held->expires_at_ms - now_ms;
  return 0;
}

BACKDOORS_API int backdoors_get(backdoors_node *node, const char *store, const char *id, size_t id_bytes, backdoors_session *session) {
  uint16_t number;
  uint32_t hash, position;
  const int status = bd_named_store(node, store, &number);
  if (status != 0) return status;
  position = bd_find(node, number, id, id_bytes, &hash);
  return position == BD_NONE ? BACKDOORS_SESSION_NOT_FOUND : bd_tell(node, position, session);
}

BACKDOORS_API int backdoors_delete(backdoors_node *node, const char *store, const char *id, size_t id_bytes) {
  uint16_t number;
  uint32_t hash, position;
  const int status = bd_named_store(node, store, &number);
  if (status != 0) return status;
  if (backdoors_fenced(node)) return BACKDOORS_FENCED;
  position = bd_find(node, number, id, id_bytes, &hash);
  return position == BD_NONE ? BACKDOORS_SESSION_NOT_FOUND : bd_delete_at(node, position);
}

BACKDOORS_API int backdoors_next(backdoors_node *node, uint32_t *cursor, backdoors_session *session) {
  while (*cursor < node->next_position) {
    const uint32_t position = (*cursor)++;
    int status;
    if (node->held[position].prefix == NULL) continue;
    status = bd_tell(node, position, session);
    if (status != BACKDOORS_SESSION_NOT_FOUND) return status == 0 ? 1 : status;
  }
  return 0;
}

/* ---------------------------------------------------------------- JSON, as much of it as the daemon's lines are made of */

struct bd_json {
  const char *at, *end;
};

static void bd_json_space(struct bd_json *json) {
  while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\r')) json->at++;
}

/* Takes this character, with the space before it. */
static int bd_json_take(struct bd_json *json, char wanted) {
  bd_json_space(json);
  if (json->at >= json->end || *json->at != wanted) return 0;
  json->at++;
  return 1;
}

static int bd_json_hex(struct bd_json *json, uint32_t *code) {
  int i;
  *code = 0;
  if (json->end - json->at < 4) return 0;
  for (i = 0; i < 4; i++) {
    const char digit = *json->at++;
    uint32_t value;
    if (digit >= '0' && digit <= '9') value = BD_CAST(uint32_t, digit - '0');
    else if (digit >= 'a' && digit <= 'f') value = BD_CAST(uint32_t, digit - 'a' + 10);
    else if (digit >= 'A' && digit <= 'F') value = BD_CAST(uint32_t, digit - 'A' + 10);
    else return 0;
    *code = *code * 16 + value;
  }
  return 1;
}

/* What stands behind a backslash, as UTF-8: how many bytes, or 0. */
static size_t bd_json_escape(struct bd_json *json, unsigned char utf8[4]) {
  static const char escapes[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char *simple;
  uint32_t code, low;
  if (json->at >= json->end) return 0;
  simple = *json->at == '\0' ? NULL : strchr(escapes, *json->at);
  if (simple != NULL) {
    json->at++;
    utf8[0] = BD_CAST(unsigned char, values[simple - escapes]);
    return 1;
  }
  if (*json->at++ != 'u' || !bd_json_hex(json, &code)) return 0;
  if (code >= 0xd800 && code < 0xdc00) {
    if (json->end - json->at < 6 || json->at[0] != '\\' || json->at[1] != 'u') return 0;
    json->at += 2;
    if (!bd_json_hex(json, &low) || low < 0xdc00 || low > 0xdfff) return 0;
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xdc00 && code < 0xe000) return 0;
  if (code < 0x80) {
    utf8[0] = BD_CAST(unsigned char, code);
    return 1;
  }
  if (code < 0x800) {
    utf8[0] = BD_CAST(unsigned char, 0xc0 | (code >> 6));
    utf8[1] = BD_CAST(unsigned char, 0x80 | (code & 0x3f));
    return 2;
  }
  if (code < 0x10000) {
    utf8[0] = BD_CAST(unsigned char, 0xe0 | (code >> 12));
    utf8[1] = BD_CAST(unsigned char, 0x80 | ((code >> 6) & 0x3f));
    utf8[2] = BD_CAST(unsigned char, 0x80 | (code & 0x3f));
    return 3;
  }
  utf8[0] = BD_CAST(unsigned char, 0xf0 | (code >> 18));
  utf8[1] = BD_CAST(unsigned char, 0x80 | ((code >> 12) & 0x3f));
  utf8[2] = BD_CAST(unsigned char, 0x80 | ((code >> 6) & 0x3f));
  utf8[3] = BD_CAST(unsigned char, 0x80 | (code & 0x3f));
  return 4;
}

/* A string. What does not fit into `capacity` is left out, but counted. */
static int bd_json_string(struct bd_json *json, char *into, size_t capacity, size_t *length) {
  *length = 0;
  if (!bd_json_take(json, '"')) return 0;
  while (json->at < json->end) {
    unsigned char utf8[4];
    size_t bytes = 1;
    const char each = *json->at++;
    if (each == '"') return 1;
    if (each >= 0 && each < ' ') return 0;
    utf8[0] = BD_CAST(unsigned char, each);
    if (each == '\\') bytes = bd_json_escape(json, utf8);
    if (bytes == 0) return 0;
    if (*length + bytes <= capacity) memcpy(into + *length, utf8, bytes);
    *length += bytes;
  }
  return 0;
}

/* A whole number that is exact. */
static int bd_json_count(struct bd_json *json, uint64_t *value) {
  const char *first;
  bd_json_space(json);
  first = json->at;
  *value = 0;
  while (json->at < json->end && *json->at >= '0' && *json->at <= '9' && json->at - first < 16) *value = *value * 10 + BD_CAST(uint64_t, *json->at++ - '0');
  if (json->at == first || (*first == '0' && json->at - first > 1) || *value > BD_SAFE_INTEGER) return 0;
  return json->at < json->end && (*json->at == ',' || *json->at == '}' || *json->at == ']' || *json->at == ' ');
}

static int bd_json_digits(struct bd_json *json) {
  const char *first = json->at;
  while (json->at < json->end && *json->at >= '0' && *json->at <= '9') json->at++;
  return json->at > first;
}

static int bd_json_number(struct bd_json *json) {
  if (json->at < json->end && *json->at == '-') json->at++;
  if (json->at < json->end && *json->at == '0') json->at++;
  else if (!bd_json_digits(json)) return 0;
  if (json->at < json->end && *json->at == '.') {
    json->at++;
    if (!bd_json_digits(json)) return 0;
  }
  if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
    json->at++;
    if (json->at < json->end && (*json->at == '+' || *json->at == '-')) json->at++;
    return bd_json_digits(json);
  }
  return 1;
}

/* Any value, of which nothing is wanted but where it ends. */
static int bd_json_skip(struct bd_json *json, int depth) {
  static const char *const words[] = {"true", "false", "null"};
  size_t length, i;
  bd_json_space(json);
  if (json->at >= json->end || depth > 32) return 0;
  if (*json->at == '"') return bd_json_string(json, NULL, 0, &length);
  if (*json->at == '{' || *json->at == '[') {
    const int is_object = *json->at++ == '{';
    if (bd_json_take(json, is_object ? '}' : ']')) return 1;
    do {
      if (is_object && (!bd_json_string(json, NULL, 0, &length) || !bd_json_take(json, ':'))) return 0;
      if (!bd_json_skip(json, depth + 1)) return 0;
    } while (bd_json_take(json, ','));
    return bd_json_take(json, is_object ? '}' : ']');
  }
  for (i = 0; i < 3; i++) {
    length = strlen(words[i]);
    if (BD_CAST(size_t, json->end - json->at) < length || memcmp(json->at, words[i], length) != 0) continue;
    json->at += length;
    return 1;
  }
  return bd_json_number(json);
}

/* The next member's key, before its value: 1; 0 at the object's end; -1 where it is none. `first` is 1 at the first call. */
static int bd_json_member(struct bd_json *json, int *first, char key[16]) {
  size_t length;
  if (*first && !bd_json_take(json, '{')) return -1;
  if (bd_json_take(json, '}')) return 0;
  if (!*first && !bd_json_take(json, ',')) return -1;
  *first = 0;
  memset(key, 0, 16);
  if (!bd_json_string(json, key, 15, &length) || !bd_json_take(json, ':')) return -1;
  if (length > 15) key[0] = '\0';
  return 1;
}

/* ---------------------------------------------------------------- what goes to the daemon */

static int bd_reserve(struct bd_buffer *buffer, size_t more) {
  size_t capacity = buffer->capacity > 0 ? buffer->capacity : 4096;
  char *grown;
  while (capacity < buffer->length + more) capacity *= 2;
  if (capacity == buffer->capacity) return 1;
  grown = BD_CAST(char *, realloc(buffer->bytes, capacity));
  if (grown == NULL) return 0;
  buffer->bytes = grown;
  buffer->capacity = capacity;
  return 1;
}

static int bd_say(struct bd_buffer *out, const char *text) {
  const size_t length = strlen(text);
  if (!bd_reserve(out, length)) return 0;
  memcpy(out->bytes + out->length, text, length);
  out->length += length;
  return 1;
}

static int bd_say_string(struct bd_buffer *out, const char *text, size_t length) {
  static const char hex[] = "0123456789abcdef";
  size_t i;
  if (!bd_reserve(out, 6 * length + 2)) return 0;
  out->bytes[out->length++] = '"';
  for (i = 0; i < length; i++) {
    const unsigned char each = BD_CAST(unsigned char, text[i]);
    if (each == '"' || each == '\\') out->bytes[out->length++] = '\\';
    if (each >= ' ') {
      out->bytes[out->length++] = text[i];
      continue;
    }
    memcpy(out->bytes + out->length, "\\u00", 4);
    out->bytes[out->length + 4] = hex[each >> 4];
    out->bytes[out->length + 5] = hex[each & 15];
    out->length += 6;
  }
  out->bytes[out->length++] = '"';
  return 1;
}

static int bd_say_count(struct bd_buffer *out, uint64_t value) {
  char digits[21];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  do digits[--at] = BD_CAST(char, '0' + value % 10);
  while ((value /= 10) > 0);
  return bd_say(out, digits + at);
}

static int bd_announce(backdoors_node *node) {
  struct bd_buffer *out = &node->out;
  uint32_t i;
  int count = 0;
  int said = bd_say(out, "{\"type\":\"attached\",\"box\":") && bd_say_count(out, node->box) && bd_say(out, ",\"generation\":") &&
             bd_say_count(out, node->generation) && bd_say(out, ",\"name\":") && bd_say_string(out, node->name, strlen(node->name)) && bd_say(out, ",\"stores\":[");
  for (i = 0; i < node->store_count && said; i++) {
    if (!node->stores[i].is_served) continue;
    said = (count++ == 0 || bd_say(out, ",")) && bd_say_string(out, node->stores[i].name, node->stores[i].bytes);
  }
  return said && bd_say(out, "]}\n");
}

/* ---------------------------------------------------------------- what comes from the daemon */

struct bd_offered {
  char store[BD_MAX_NAME], id[BD_MAX_ID];
  size_t store_bytes, id_bytes;
  uint64_t offset, length;
};

static int bd_json_offered(struct bd_json *json, struct bd_offered *offered) {
  char key[16];
  int first = 1, status;
  unsigned seen = 0;
  while ((status = bd_json_member(json, &first, key)) == 1) {
    int read;
    if (strcmp(key, "store") == 0) seen |= 1, read = bd_json_string(json, offered->store, sizeof offered->store, &offered->store_bytes);
    else if (strcmp(key, "id") == 0) seen |= 2, read = bd_json_string(json, offered->id, sizeof offered->id, &offered->id_bytes);
    else if (strcmp(key, "offset") == 0) seen |= 4, read = bd_json_count(json, &offered->offset);
    else if (strcmp(key, "length") == 0) seen |= 8, read = bd_json_count(json, &offered->length);
    else read = bd_json_skip(json, 2);
    if (!read) return 0;
  }
  /* What is too long for a store or an id was offered by nobody who has such a session. */
  return status == 0 && seen == 15 && bd_is_text(bd_bytes(offered->store), offered->store_bytes, BD_MAX_NAME) &&
         bd_is_text(bd_bytes(offered->id), offered->id_bytes, BD_MAX_ID);
}

enum bd_taking { BD_TAKEN, BD_REFUSED, BD_KEPT };

/* As `taken` says it to the daemon; and `came`: for each session that did, the lengths of its names and of its origin, then these. */
struct bd_answer {
  struct bd_buffer refused, kept, came;
  int count;
};

static int bd_append(struct bd_buffer *to, const void *bytes, size_t length) {
  if (!bd_reserve(to, length)) return 0;
  if (length > 0) memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
  return 1;
}

/* Commits the session of this record into this server's own box, with its origin. Its position goes to `position`, where it is taken. */
static enum bd_taking bd_take_record(backdoors_node *node, const struct bd_offered *offered, const unsigned char *at, uint32_t *position) {
  const unsigned char *store = at + BD_RECORD, *origin;
  struct bd_record record;
  backdoors_session here;
  backdoors_options options;
  uint32_t hash;
  uint16_t number;
  int status;
  if (!bd_read_record(at, offered->length, bd_box_seed(node->incarnation, 0), &record)) return BD_REFUSED;
  origin = store + record.store_bytes + record.id_bytes;
  if (record.store_bytes != offered->store_bytes || memcmp(store, offered->store, offered->store_bytes) != 0 || record.id_bytes != offered->id_bytes ||
      memcmp(store + record.store_bytes, offered->id, offered->id_bytes) != 0) {
    return BD_REFUSED;
  }
  if (bd_store_number(node, offered->store, offered->store_bytes, &number) != 0 || !node->stores[number].is_served) return BD_REFUSED;
  *position = bd_find(node, number, offered->id, offered->id_bytes, &hash);
  if (*position != BD_NONE) {
    const struct bd_held *held = &node->held[*position];
    status = bd_tell(node, *position, &here);
    if (status == BACKDOORS_RECORD_CORRUPT) return BD_REFUSED;
    /* An earlier offer of this very session may have been cut short. */
    if (status == 0) {
      const unsigned char *own = held->prefix + held->store_bytes + held->id_bytes;
      const int is_same = record.origin_bytes > 0 && held->origin_bytes == record.origin_bytes && memcmp(own, origin, record.origin_bytes) == 0;
      return is_same ? BD_TAKEN : BD_KEPT;
    }
  }
  options.ttl_ms = record.ttl_ms;
  options.schema_version = record.schema_version;
  status = bd_commit(node, number, offered->id, offered->id_bytes, origin + record.origin_bytes, record.payload_bytes, &options,
                     record.origin_bytes > 0 ? origin : NULL, record.origin_bytes);
  *position = bd_find(node, number, offered->id, offered->id_bytes, &hash);
  return status == 0 ? BD_TAKEN : BD_REFUSED;
}

/* From a copy, not from the daemon's box: that may move on meanwhile, and what is committed from here gets a CRC of its own. */
static enum bd_taking bd_take_over(backdoors_node *node, const struct bd_offered *offered, uint32_t *position) {
  unsigned char *copy;
  enum bd_taking taking;
  if (offered->offset > node->region_bytes || offered->length > node->region_bytes - offered->offset) return BD_REFUSED;
  copy = BD_NEW(unsigned char, BD_CAST(size_t, offered->length));
  if (copy == NULL) return BD_REFUSED;
  memcpy(copy, node->region + offered->offset, BD_CAST(size_t, offered->length));
  taking = bd_take_record(node, offered, copy, position);
  free(copy);
  return taking;
}

static int bd_say_session(struct bd_buffer *list, const struct bd_offered *offered) {
  return (list->length == 0 || bd_say(list, ",")) && bd_say(list, "{\"store\":") && bd_say_string(list, offered->store, offered->store_bytes) &&
         bd_say(list, ",\"id\":") && bd_say_string(list, offered->id, offered->id_bytes) && bd_say(list, "}");
}

static int bd_note_came(struct bd_buffer *came, const struct bd_held *held) {
  const uint16_t lengths[4] = {held->store, held->store_bytes, held->id_bytes, held->origin_bytes};
  return bd_append(came, lengths, sizeof lengths) && bd_append(came, held->prefix, BD_CAST(size_t, held->store_bytes) + held->id_bytes + held->origin_bytes);
}

/* Takes over what an offer lists, whose form has been checked, and says so. 0, or an error. */
static int bd_take_offer(backdoors_node *node, uint64_t offer, struct bd_json sessions, struct bd_answer *answer) {
  struct bd_offered offered;
  struct bd_buffer *out = &node->out;
  int said = 1;
  if (!bd_json_take(&sessions, '[')) return BACKDOORS_PROTOCOL_ERROR;
  while (said && bd_json_offered(&sessions, &offered)) {
    uint32_t position;
    const enum bd_taking taking = bd_take_over(node, &offered, &position);
    answer->count += taking == BD_TAKEN ? 1 : 0;
    said = taking == BD_TAKEN ? bd_note_came(&answer->came, &node->held[position]) : bd_say_session(taking == BD_KEPT ? &answer->kept : &answer->refused, &offered);
    if (!bd_json_take(&sessions, ',')) break;
  }
  said = said && bd_say(out, "{\"type\":\"taken\",\"offer\":") && bd_say_count(out, offer) && bd_say(out, ",\"refused\":[") &&
         bd_append(out, answer->refused.bytes, answer->refused.length) && bd_say(out, "],\"kept\":[") &&
         bd_append(out, answer->kept.bytes, answer->kept.length) && bd_say(out, "]}\n");
  return said ? 0 : BACKDOORS_SYSTEM_CALL_FAILED;
}

/* Each is looked up again: the callback before may have deleted it, or have put another in its place. */
static void bd_tell_came(backdoors_node *node, const struct bd_buffer *came, backdoors_adopted adopted, void *context) {
  size_t at = 0;
  while (at < came->length) {
    uint16_t lengths[4];
    const char *names = came->bytes + at + sizeof lengths;
    size_t bytes;
    backdoors_session session;
    uint32_t hash, position;
    memcpy(lengths, came->bytes + at, sizeof lengths);
    bytes = BD_CAST(size_t, lengths[1]) + lengths[2] + lengths[3];
    at += sizeof lengths + bytes;
    position = bd_find(node, lengths[0], names + lengths[1], lengths[2], &hash);
    if (position == BD_NONE || node->held[position].origin_bytes != lengths[3] || memcmp(node->held[position].prefix, names, bytes) != 0) continue;
    if (bd_tell(node, position, &session) == 0) adopted(context, &session);
  }
}

static int bd_json_sessions(struct bd_json *json) {
  struct bd_offered offered;
  if (!bd_json_take(json, '[')) return 0;
  if (bd_json_take(json, ']')) return 1;
  do {
    if (!bd_json_offered(json, &offered)) return 0;
  } while (bd_json_take(json, ','));
  return bd_json_take(json, ']');
}

/* One line of the daemon's, checked as a whole before anything of it is done. How many sessions came, or an error. */
static int bd_on_line(backdoors_node *node, const char *line, size_t length, backdoors_adopted adopted, void *context) {
  struct bd_json json = {line, line + length}, sessions = {NULL, NULL};
  char key[16], type[16] = {0};
  int first = 1, status, read;
  unsigned seen = 0;
  uint64_t offer = 0;
  size_t bytes;
  struct bd_answer answer;
  while ((status = bd_json_member(&json, &first, key)) == 1) {
    if (strcmp(key, "type") == 0) read = bd_json_string(&json, type, sizeof type - 1, &bytes) && bytes < sizeof type;
    else if (strcmp(key, "offer") == 0) seen |= 1, read = bd_json_count(&json, &offer);
    else if (strcmp(key, "from") == 0) seen |= 2, read = bd_json_string(&json, NULL, 0, &bytes);
    else if (strcmp(key, "sessions") == 0) {
      seen |= 4;
      sessions = json;
      read = bd_json_sessions(&json);
    } else read = bd_json_skip(&json, 1);
    if (!read) return BACKDOORS_PROTOCOL_ERROR;
  }
  bd_json_space(&json);
  if (status != 0 || json.at != json.end) return BACKDOORS_PROTOCOL_ERROR;
  /* Answers are for those who asked. */
  if (strcmp(type, "response") == 0) return 0;
  if (strcmp(type, "offered") != 0 || seen != 7) return BACKDOORS_PROTOCOL_ERROR;
  memset(&answer, 0, sizeof answer);
  status = bd_take_offer(node, offer, sessions, &answer);
  if (status == 0 && adopted != NULL) bd_tell_came(node, &answer.came, adopted, context);
  free(answer.refused.bytes);
  free(answer.kept.bytes);
  free(answer.came.bytes);
  return status == 0 ? answer.count : status;
}

/* ---------------------------------------------------------------- the connection */

static int bd_disconnect(backdoors_node *node, int result) {
  const int error = errno;
  if (node->socket_fd >= 0) close(node->socket_fd);
  node->socket_fd = -1;
  node->in.length = node->in.scanned = node->out.length = 0;
  node->must_announce = 0;
  node->retry_at_ms = BACKDOORS_CLOCK_MS() + node->retry_ms;
  node->retry_ms = node->retry_ms * 2 > BD_LAST_RETRY_MS ? BD_LAST_RETRY_MS : node->retry_ms * 2;
  errno = error;
  return result;
}

/* A daemon that is not there costs the server nothing: it is tried again, later. */
static int bd_connect(backdoors_node *node) {
  struct sockaddr_un address;
  const size_t length = strlen(node->path);
  if (BACKDOORS_CLOCK_MS() < node->retry_at_ms) return 0;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  if (length + sizeof ".sock" > sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return bd_disconnect(node, BACKDOORS_SYSTEM_CALL_FAILED);
  }
  memcpy(address.sun_path, node->path, length);
  memcpy(address.sun_path + length, ".sock", sizeof ".sock");
  node->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (node->socket_fd < 0) return bd_disconnect(node, BACKDOORS_SYSTEM_CALL_FAILED);
  if (connect(node->socket_fd, BD_CAST(const struct sockaddr *, BD_CAST(const void *, &address)), sizeof address) != 0) return bd_disconnect(node, 0);
  node->retry_ms = BD_FIRST_RETRY_MS;
  node->must_announce = 1;
  return 0;
}

/* 1: all is said; 0: the daemon has to read first; else an error. */
static int bd_flush(backdoors_node *node) {
  struct bd_buffer *out = &node->out;
  while (out->length > 0) {
    const ssize_t sent = send(node->socket_fd, out->bytes, out->length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    out->length -= BD_CAST(size_t, sent);
    memmove(out->bytes, out->bytes + sent, out->length);
  }
  return 1;
}

/* Deals with the lines that are whole. How many sessions came, or an error. */
static int bd_on_lines(backdoors_node *node, backdoors_adopted adopted, void *context) {
  struct bd_buffer *in = &node->in;
  size_t begun = 0;
  int count = 0, result;
  for (;;) {
    const char *end = in->length > in->scanned ? BD_CAST(const char *, memchr(in->bytes + in->scanned, '\n', in->length - in->scanned)) : NULL;
    if (end == NULL) break;
    in->scanned = BD_CAST(size_t, end - in->bytes) + 1;
    result = bd_on_line(node, in->bytes + begun, in->scanned - 1 - begun, adopted, context);
    if (result < 0) return result;
    count += result;
    begun = in->scanned;
  }
  if (begun > 0) {
    in->length -= begun;
    memmove(in->bytes, in->bytes + begun, in->length);
  }
  in->scanned = in->length;
  return in->length > BD_MAX_LINE ? BACKDOORS_PROTOCOL_ERROR : count;
}

BACKDOORS_API int backdoors_serve(backdoors_node *node, const char *store) {
  uint16_t number;
  const int status = bd_named_store(node, store, &number);
  if (status != 0) return status;
  if (node->stores[number].is_served) return 0;
  node->stores[number].is_served = 1;
  if (node->socket_fd >= 0) node->must_announce = 1;
  return 0;
}

BACKDOORS_API int backdoors_fd(const backdoors_node *node) { return node->socket_fd; }

BACKDOORS_API int backdoors_adopt_poll(backdoors_node *node, backdoors_adopted adopted, void *context) {
  int count = 0, result;
  if (node->is_child) return 0;
  if (node->socket_fd < 0) {
    result = bd_connect(node);
    if (node->socket_fd < 0) return result;
  }
  for (;;) {
    ssize_t got;
    if (node->must_announce) {
      if (!bd_announce(node)) return bd_disconnect(node, BACKDOORS_SYSTEM_CALL_FAILED);
      node->must_announce = 0;
    }
    result = bd_flush(node);
    /* Nothing more is taken in while the daemon does not read what it was told. */
    if (result <= 0) return result == 0 ? count : bd_disconnect(node, count);
    if (!bd_reserve(&node->in, 65536)) return bd_disconnect(node, BACKDOORS_SYSTEM_CALL_FAILED);
    got = recv(node->socket_fd, node->in.bytes + node->in.length, node->in.capacity - node->in.length, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return count;
    if (got <= 0) return bd_disconnect(node, count);
    node->in.length += BD_CAST(size_t, got);
    result = bd_on_lines(node, adopted, context);
    if (result < 0) return bd_disconnect(node, result);
    count += result;
  }
}

#endif /* BACKDOORS_IMPLEMENTATION */
