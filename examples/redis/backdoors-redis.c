/*
 * Redis that outlives its machine: a module that commits each changed key to the region of this machine's Backdoors daemon
 * before the client is answered, and brings the keys of a failed Redis back on the machine that recovers them.
 *
 *     redis-server --save '' --appendonly no --loadmodule ./backdoors-redis.so REGION NAME DEADLINE_MS
 *
 * Redis tells modules of a changed key within the command that changes it, and writes replies only when it is back in its
 * event loop: so a key is committed before anybody hears of it. A key is a session of the store `redis`; its id is the
 * database's number and the key, what is no plain character in it as %XX; its payload is the time at which it expires (Unix
 * milliseconds, 8 bytes, 0 = never), then what DUMP gives, which has a version and a checksum of Redis's own. Where that would
 * be no id, because it is too long, it is the number, %% and the key's SHA-256; and the key's length (8 bytes) and the key stand
 * before what DUMP gives.
 *
 * Where a key cannot be committed, this server stops at once and answers nobody: what it has acknowledged is recovered.
 */
#define BACKDOORS_IMPLEMENTATION
#include "backdoors.h"

#include <pthread.h>

#include "redis-api.h"
#include "sha256.h"

#define STORE "redis"
#define SWEEP_EVERY_MS 10000
#define ASK_EVERY_MS 5

static backdoors_node *node;
static backdoors_sensor beat;
static long long beat_every_ms;
static long long since_sweep_ms;
static int is_restoring;
static int has_restored;
/* Of the key that is being committed; kept, so that nothing is allocated for most commits. */
static unsigned char *payload;
static size_t payload_capacity;
/* The key that is being renamed or moved, until it is there under its other name. */
static char leaving[BD_MAX_ID];
static size_t leaving_bytes;

/* Nothing that waits in Redis's buffers goes out any more. */
static void stop(RedisModuleCtx *ctx, const char *doing, int error) {
  RedisModule_Log(ctx, "warning", "backdoors: %s: %s. Stopping; nothing more is answered.", doing, backdoors_strerror(error));
  _exit(3);
}

/* ---------------------------------------------------------------- keys and session ids */

static size_t number_of(int database, char *id) {
  size_t length = 0;
  char digits[12];
  int count = 0;
  do digits[count++] = (char)('0' + database % 10);
  while ((database /= 10) > 0);
  while (count > 0) id[length++] = digits[--count];
  id[length++] = ':';
  return length;
}

static size_t digest_of(const char *key, size_t key_bytes, char *id) {
  static const char hex[] = "0123456789abcdef";
  unsigned char digest[SHA256_BYTES];
  size_t i;
  sha256((const unsigned char *)key, key_bytes, digest);
  id[0] = id[1] = '%';
  for (i = 0; i < SHA256_BYTES; i++) {
    id[2 + 2 * i] = hex[digest[i] >> 4];
    id[3 + 2 * i] = hex[digest[i] & 15];
  }
  return 2 + 2 * SHA256_BYTES;
}

static size_t id_of(int database, const char *key, size_t key_bytes, char id[BD_MAX_ID]) {
  static const char hex[] = "0123456789ABCDEF";
  const size_t number_bytes = number_of(database, id);
  size_t length = number_bytes, i;
  for (i = 0; i < key_bytes; i++) {
    const unsigned char each = (unsigned char)key[i];
    const int is_plain = each > ' ' && each < 0x7f && each != '%';
    if (length + (is_plain ? 1 : 3) > BD_MAX_ID) return number_bytes + digest_of(key, key_bytes, id + number_bytes);
    if (is_plain) {
      id[length++] = (char)each;
      continue;
    }
    id[length++] = '%';
    id[length++] = hex[each >> 4];
    id[length++] = hex[each & 15];
  }
  return length;
}

/* How many bytes of the id are the database's number; 0 where it is none. */
static size_t database_of(const char *id, size_t id_bytes, int *database) {
  size_t i = 0;
  *database = 0;
  while (i < id_bytes && i < 9 && id[i] >= '0' && id[i] <= '9') *database = *database * 10 + (id[i++] - '0');
  return i > 0 && i < id_bytes && id[i] == ':' ? i + 1 : 0;
}

static int is_digest(const char *name, size_t bytes) { return bytes > 2 && name[0] == '%' && name[1] == '%'; }

static unsigned digit(char each) { return (unsigned)(each <= '9' ? each - '0' : each - 'A' + 10); }

/* The key goes into `key`, which has room for as many bytes; 0 where the name is none. */
static int key_of(const char *name, size_t bytes, char *key, size_t *key_bytes) {
  size_t i = 0;
  *key_bytes = 0;
  while (i < bytes) {
    if (name[i] == '%' && i + 2 >= bytes) return 0;
    key[(*key_bytes)++] = name[i] == '%' ? (char)(digit(name[i + 1]) * 16 + digit(name[i + 2])) : name[i];
    i += name[i] == '%' ? 3 : 1;
  }
  return 1;
}

/* ---------------------------------------------------------------- from Redis into the box */

static long long now_unix_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The record lives no longer than the key, where that fits into 32 bits; the key's own time is in the payload. */
static uint32_t ttl_of(long long expires_at_ms) {
  const long long left = expires_at_ms - now_unix_ms();
  if (expires_at_ms <= 0 || left > (long long)UINT32_MAX) return 0;
  return left < 1 ? 1 : (uint32_t)left;
}

/* Where `payload` ends by now. */
static size_t append(size_t at, const void *bytes, size_t length) {
  memcpy(payload + at, bytes, length);
  return at + length;
}

static void make_room(RedisModuleCtx *ctx, size_t bytes) {
  unsigned char *grown;
  if (payload_capacity >= bytes) return;
  grown = (unsigned char *)realloc(payload, bytes * 2);
  if (grown == NULL) stop(ctx, "keeping a key", BACKDOORS_SYSTEM_CALL_FAILED);
  payload = grown;
  payload_capacity = bytes * 2;
}

static void commit_key(RedisModuleCtx *ctx, RedisModuleString *key, const char *id, size_t id_bytes, RedisModuleCallReply *dump) {
  RedisModuleCallReply *expires = RedisModule_Call(ctx, "PEXPIRETIME", "s", key);
  const long long told = expires != NULL && RedisModule_CallReplyType(expires) == REDISMODULE_REPLY_INTEGER ? RedisModule_CallReplyInteger(expires) : -1;
  const uint64_t expires_at_ms = told > 0 ? (uint64_t)told : 0;
  const backdoors_options options = {ttl_of(told), 1};
  size_t bytes, key_bytes, number_bytes, end;
  const char *dumped = RedisModule_CallReplyStringPtr(dump, &bytes);
  const char *name = RedisModule_StringPtrLen(key, &key_bytes);
  int status, database;
  if (expires != NULL) RedisModule_FreeCallReply(expires);
  make_room(ctx, 16 + key_bytes + bytes);
  end = append(0, &expires_at_ms, 8);
  number_bytes = database_of(id, id_bytes, &database);
  if (is_digest(id + number_bytes, id_bytes - number_bytes)) {
    const uint64_t told_bytes = key_bytes;
    end = append(end, &told_bytes, 8);
    end = append(end, name, key_bytes);
  }
  end = append(end, dumped, bytes);
  status = backdoors_commit(node, STORE, id, id_bytes, payload, end, &options);
  if (status != 0) stop(ctx, "committing a key", status);
}

static void delete_key(RedisModuleCtx *ctx, const char *id, size_t id_bytes) {
  const int status = backdoors_delete(node, STORE, id, id_bytes);
  if (status != 0 && status != BACKDOORS_SESSION_NOT_FOUND) stop(ctx, "deleting a key", status);
}

/* Within the command that changed the key: its client is answered later. */
static int on_changed_key(RedisModuleCtx *ctx, int type, const char *event, RedisModuleString *key) {
  char id[BD_MAX_ID];
  size_t key_bytes, id_bytes;
  const char *name;
  RedisModuleCallReply *dump;
  (void)type;
  if (node == NULL || is_restoring) return REDISMODULE_OK;
  name = RedisModule_StringPtrLen(key, &key_bytes);
  id_bytes = id_of(RedisModule_GetSelectedDb(ctx), name, key_bytes, id);
  /* Redis tells of the old name first; the new one comes right after it. Were the old session deleted first, a death in
   * between would lose what was acknowledged long ago. */
  if (strcmp(event, "rename_from") == 0 || strcmp(event, "move_from") == 0) {
    memcpy(leaving, id, id_bytes);
    leaving_bytes = id_bytes;
    return REDISMODULE_OK;
  }
  dump = RedisModule_Call(ctx, "DUMP", "s", key);
  if (dump == NULL) stop(ctx, "reading a key", BACKDOORS_SYSTEM_CALL_FAILED);
  if (RedisModule_CallReplyType(dump) == REDISMODULE_REPLY_STRING) commit_key(ctx, key, id, id_bytes, dump);
  else if (RedisModule_CallReplyType(dump) == REDISMODULE_REPLY_NULL) delete_key(ctx, id, id_bytes);
  else stop(ctx, "reading a key", BACKDOORS_SYSTEM_CALL_FAILED);
  RedisModule_FreeCallReply(dump);
  if (leaving_bytes > 0) delete_key(ctx, leaving, leaving_bytes);
  leaving_bytes = 0;
  return REDISMODULE_OK;
}

static void on_flushed(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
  const RedisModuleFlushInfo *info = (const RedisModuleFlushInfo *)data;
  backdoors_session session;
  uint32_t cursor = 0;
  int status;
  (void)event;
  if (node == NULL || subevent != REDISMODULE_SUBEVENT_END) return;
  while ((status = backdoors_next(node, &cursor, &session)) != 0) {
    char id[BD_MAX_ID];
    int database;
    if (status < 0 || database_of(session.id, session.id_bytes, &database) == 0) continue;
    if (info->database >= 0 && info->database != database) continue;
    memcpy(id, session.id, session.id_bytes);
    status = backdoors_delete(node, STORE, id, session.id_bytes);
    if (status != 0) stop(ctx, "emptying a database", status);
  }
}

static void on_swapped(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
  (void)event;
  (void)subevent;
  (void)data;
  if (node != NULL) stop(ctx, "SWAPDB is not followed", BACKDOORS_INVALID_ARGUMENT);
}

/* ---------------------------------------------------------------- from the box into Redis */

/* A key, the time at which it expires, and what DUMP gave; `decoded` holds the key where it had to be decoded. */
struct kept {
  int database;
  char decoded[BD_MAX_ID];
  const char *key, *dumped;
  size_t key_bytes, dumped_bytes;
  uint64_t expires_at_ms;
};

static int read_kept(const backdoors_session *session, struct kept *kept) {
  const size_t number_bytes = database_of(session->id, session->id_bytes, &kept->database), name_bytes = session->id_bytes - number_bytes;
  const char *name = session->id + number_bytes, *bytes = (const char *)session->payload;
  uint64_t key_bytes;
  if (number_bytes == 0 || session->payload_bytes < 8) return 0;
  memcpy(&kept->expires_at_ms, bytes, 8);
  kept->dumped = bytes + 8;
  kept->dumped_bytes = session->payload_bytes - 8;
  kept->key = kept->decoded;
  if (!is_digest(name, name_bytes)) return key_of(name, name_bytes, kept->decoded, &kept->key_bytes);
  if (kept->dumped_bytes < 8) return 0;
  memcpy(&key_bytes, kept->dumped, 8);
  if (key_bytes > kept->dumped_bytes - 8) return 0;
  kept->key = kept->dumped + 8;
  kept->key_bytes = (size_t)key_bytes;
  kept->dumped = kept->key + key_bytes;
  kept->dumped_bytes -= 8 + kept->key_bytes;
  return 1;
}

static int restore(RedisModuleCtx *ctx, const backdoors_session *session) {
  struct kept kept;
  int restored;
  RedisModuleCallReply *reply;
  if (session->store_bytes != sizeof STORE - 1 || memcmp(session->store, STORE, session->store_bytes) != 0) return 0;
  if (!read_kept(session, &kept)) return 0;
  is_restoring = 1;
  RedisModule_SelectDb(ctx, kept.database);
  reply = RedisModule_Call(ctx, "RESTORE", "!blbcc", kept.key, kept.key_bytes, (long long)kept.expires_at_ms, kept.dumped, kept.dumped_bytes, "REPLACE", "ABSTTL");
  RedisModule_SelectDb(ctx, 0);
  is_restoring = 0;
  restored = reply != NULL && RedisModule_CallReplyType(reply) == REDISMODULE_REPLY_STRING;
  /* As a list whose last element was being taken when its server died: that command was answered to nobody. */
  if (!restored) RedisModule_Log(ctx, "warning", "backdoors: key %.*s does not restore", (int)kept.key_bytes, kept.key);
  if (reply != NULL) RedisModule_FreeCallReply(reply);
  return restored;
}

struct adoption {
  RedisModuleCtx *ctx;
  int restored;
};

static void on_adopted(void *context, const backdoors_session *session) {
  struct adoption *adoption = (struct adoption *)context;
  adoption->restored += restore(adoption->ctx, session);
}

/* Before the first client is read: what an earlier life of this server left is there again. */
static void on_event_loop(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
  backdoors_session session;
  uint32_t cursor = 0;
  int status, restored = 0;
  (void)event;
  (void)data;
  if (has_restored || subevent != REDISMODULE_SUBEVENT_BEFORE_SLEEP || node == NULL) return;
  has_restored = 1;
  while ((status = backdoors_next(node, &cursor, &session)) != 0) restored += status == 1 ? restore(ctx, &session) : 0;
  if (restored > 0) RedisModule_Log(ctx, "notice", "backdoors: %d keys of an earlier life", restored);
}

/* ---------------------------------------------------------------- life and end */

static void on_timer(RedisModuleCtx *ctx, void *data) {
  struct adoption adoption = {ctx, 0};
  int status;
  (void)data;
  if (node == NULL) return;
  status = backdoors_beat(&beat);
  if (status != 0) stop(ctx, "beating", status);
  /* A daemon that is not there, or says nonsense, costs Redis nothing: it is tried again. */
  backdoors_adopt_poll(node, on_adopted, &adoption);
  if (adoption.restored > 0) RedisModule_Log(ctx, "notice", "backdoors: %d keys adopted", adoption.restored);
  since_sweep_ms += beat_every_ms;
  if (since_sweep_ms >= SWEEP_EVERY_MS) {
    since_sweep_ms = 0;
    status = backdoors_sweep(node);
    if (status < 0) stop(ctx, "sweeping", status);
  }
  RedisModule_CreateTimer(ctx, beat_every_ms, on_timer, NULL);
}

static void on_shutdown(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
  (void)ctx;
  (void)event;
  (void)subevent;
  (void)data;
  backdoors_close(node);
  node = NULL;
}

/* A child that saves the database must not hold the box when its parent is gone. */
static void in_child(void) {
  if (node != NULL) backdoors_forked(node);
}

static int listen_to(RedisModuleCtx *ctx) {
  const RedisModuleEvent flushed = {REDISMODULE_EVENT_FLUSHDB, 1}, swapped = {REDISMODULE_EVENT_SWAPDB, 1};
  const RedisModuleEvent loop = {REDISMODULE_EVENT_EVENTLOOP, 1}, shutdown = {REDISMODULE_EVENT_SHUTDOWN, 1};
  return RedisModule_SubscribeToKeyspaceEvents(ctx, REDISMODULE_NOTIFY_CHANGES, on_changed_key) == REDISMODULE_OK &&
         RedisModule_SubscribeToServerEvent(ctx, flushed, on_flushed) == REDISMODULE_OK &&
         RedisModule_SubscribeToServerEvent(ctx, swapped, on_swapped) == REDISMODULE_OK &&
         RedisModule_SubscribeToServerEvent(ctx, loop, on_event_loop) == REDISMODULE_OK &&
         RedisModule_SubscribeToServerEvent(ctx, shutdown, on_shutdown) == REDISMODULE_OK;
}

__attribute__((visibility("default"))) int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **arguments, int count);

int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **arguments, int count) {
  long long deadline_ms;
  size_t length;
  int status;
  if (redis_look_up(ctx) != REDISMODULE_OK) return REDISMODULE_ERR;
  RedisModule_SetModuleAttribs(ctx, "backdoors", 1, REDISMODULE_APIVER_1);
  if (count != 3 || RedisModule_StringToLongLong(arguments[2], &deadline_ms) != REDISMODULE_OK || deadline_ms < 5 || deadline_ms > 600000) {
    RedisModule_Log(ctx, "warning", "backdoors: the arguments are REGION NAME DEADLINE_MS (5 to 600000)");
    return REDISMODULE_ERR;
  }
  status = backdoors_attach(&node, RedisModule_StringPtrLen(arguments[0], &length), RedisModule_StringPtrLen(arguments[1], &length));
  if (status == 0) status = backdoors_serve(node, STORE);
  if (status == 0) status = backdoors_progress(node, "event-loop", (uint32_t)deadline_ms * 1000, &beat);
  if (status != 0) {
    RedisModule_Log(ctx, "warning", "backdoors: attaching: %s", backdoors_strerror(status));
    backdoors_close(node);
    node = NULL;
    return REDISMODULE_ERR;
  }
  /* The daemon offers a hundred sessions at a time, and the next when these are taken: it is asked often. */
  beat_every_ms = deadline_ms / 5 < ASK_EVERY_MS ? deadline_ms / 5 : ASK_EVERY_MS;
  if (!listen_to(ctx) || pthread_atfork(NULL, NULL, in_child) != 0) return REDISMODULE_ERR;
  RedisModule_CreateTimer(ctx, beat_every_ms, on_timer, NULL);
  return REDISMODULE_OK;
}
