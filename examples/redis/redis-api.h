/*
 * What backdoors-redis.c needs of Redis 7: functions that the server hands out by their names, and the numbers that go
 * with them. Debian ships no header for modules.
 */
#ifndef REDIS_API_H
#define REDIS_API_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct RedisModuleCtx RedisModuleCtx;
typedef struct RedisModuleString RedisModuleString;
typedef struct RedisModuleCallReply RedisModuleCallReply;
typedef struct RedisModuleEvent {
  uint64_t id;
  uint64_t version;
} RedisModuleEvent;
/* What comes with the event that a database is emptied: of this number, or of all where it is -1. */
typedef struct RedisModuleFlushInfo {
  uint64_t version;
  int32_t is_synchronous;
  int32_t database;
} RedisModuleFlushInfo;

typedef int (*RedisModuleKeyspaceCallback)(RedisModuleCtx *, int type, const char *event, RedisModuleString *key);
typedef void (*RedisModuleEventCallback)(RedisModuleCtx *, RedisModuleEvent, uint64_t subevent, void *data);
typedef void (*RedisModuleTimerCallback)(RedisModuleCtx *, void *data);

enum { REDISMODULE_OK = 0, REDISMODULE_ERR = 1, REDISMODULE_APIVER_1 = 1 };
enum { REDISMODULE_REPLY_STRING = 0, REDISMODULE_REPLY_INTEGER = 2, REDISMODULE_REPLY_NULL = 4 };
/* Generic, string, list, set, hash and sorted set commands, expiry, eviction, streams, types of other modules. */
enum { REDISMODULE_NOTIFY_CHANGES = 0x7fc | (1 << 13) };
enum { REDISMODULE_EVENT_FLUSHDB = 2, REDISMODULE_EVENT_SHUTDOWN = 5, REDISMODULE_EVENT_SWAPDB = 11, REDISMODULE_EVENT_EVENTLOOP = 15 };
enum { REDISMODULE_SUBEVENT_END = 1, REDISMODULE_SUBEVENT_BEFORE_SLEEP = 0 };

#define REDIS_FUNCTIONS(each)                                                                                    \
  each(void, SetModuleAttribs, (RedisModuleCtx *, const char *name, int version, int api_version))               \
  each(int, SubscribeToKeyspaceEvents, (RedisModuleCtx *, int types, RedisModuleKeyspaceCallback))                \
  each(int, SubscribeToServerEvent, (RedisModuleCtx *, RedisModuleEvent, RedisModuleEventCallback))               \
  each(uint64_t, CreateTimer, (RedisModuleCtx *, long long period_ms, RedisModuleTimerCallback, void *data))      \
  each(RedisModuleCallReply *, Call, (RedisModuleCtx *, const char *command, const char *format, ...))            \
  each(int, CallReplyType, (RedisModuleCallReply *))                                                              \
  each(const char *, CallReplyStringPtr, (RedisModuleCallReply *, size_t *length))                                \
  each(long long, CallReplyInteger, (RedisModuleCallReply *))                                                     \
  each(void, FreeCallReply, (RedisModuleCallReply *))                                                             \
  each(const char *, StringPtrLen, (const RedisModuleString *, size_t *length))                                   \
  each(int, StringToLongLong, (const RedisModuleString *, long long *value))                                      \
  each(int, GetSelectedDb, (RedisModuleCtx *))                                                                    \
  each(int, SelectDb, (RedisModuleCtx *, int database))                                                           \
  each(void, Log, (RedisModuleCtx *, const char *level, const char *format, ...))

#define REDIS_DECLARE(result, name, parameters) static result(*RedisModule_##name) parameters;
REDIS_FUNCTIONS(REDIS_DECLARE)

/* The server's own function that looks others up stands first in the context of a module that is loaded. */
static int redis_look_up(RedisModuleCtx *ctx) {
  int (*look_up)(const char *name, void *into);
  memcpy(&look_up, (const void *)ctx, sizeof look_up);
#define REDIS_LOOK_UP(result, name, parameters) \
  if (look_up("RedisModule_" #name, (void *)&RedisModule_##name) != REDISMODULE_OK) return REDISMODULE_ERR;
  REDIS_FUNCTIONS(REDIS_LOOK_UP)
  return REDISMODULE_OK;
}

#endif
