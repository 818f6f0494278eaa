/*
 * A server of a test: does what its standard input says, a command a line, and answers each with a line. Ids and payloads
 * are in hexadecimal, "-" is none. A number below 0 is an error of backdoors.h.
 *
 *     clock MS                                 the clock stands at this time from now on
 *     attach PATH NAME                         RESULT BOX GENERATION
 *     close | abandon                          abandon: as if the process had ended
 *     commit STORE ID TTL SCHEMA PAYLOAD       RESULT
 *     delete STORE ID | sweep | fenced         RESULT
 *     get STORE ID                             RESULT STORE ID SCHEMA TTL FROM PAYLOAD
 *     list                                     RESULT {STORE ID SCHEMA TTL FROM PAYLOAD}
 *     progress NAME DEADLINE | gauge NAME PRESSURE VALUE LIMIT | beat NAME | pending NAME COUNT
 *     serve STORE                              RESULT
 *     poll                                     RESULT {STORE ID SCHEMA TTL FROM PAYLOAD}
 *     poll-replacing STORE {ID NEW}            the same; in the first call back, each ID is deleted, and NEW committed
 *     load STORE SESSIONS BYTES                commits until it is fenced; "SESSION COMMIT" after each that was acknowledged
 *     crc SEED BYTES                           the CRC32C
 *     fork                                     PID of a child that lets go of the box, and stays
 */
#define _GNU_SOURCE
#include <stdint.h>
static uint64_t driver_clock_ms(void);
#define BACKDOORS_CLOCK_MS driver_clock_ms
#define BACKDOORS_IMPLEMENTATION
#include "backdoors.h"

#include <stdio.h>

static uint64_t standing_ms;
static backdoors_node *node;

static uint64_t driver_clock_ms(void) {
  struct timespec now;
  if (standing_ms != 0) return standing_ms;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static unsigned digit(char each) { return (unsigned)(each <= '9' ? each - '0' : each - 'a' + 10); }

/* Decodes in place. */
static size_t bytes_of(char *hex) {
  size_t length = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2, i;
  for (i = 0; i < length; i++) hex[i] = (char)(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
  return length;
}

static void say_hex(FILE *out, const void *bytes, size_t length) {
  const unsigned char *at = (const unsigned char *)bytes;
  size_t i;
  putc(' ', out);
  if (length == 0) putc('-', out);
  for (i = 0; i < length; i++) fprintf(out, "%02x", at[i]);
}

static void say_session(FILE *out, const backdoors_session *session) {
  fprintf(out, " %.*s", (int)session->store_bytes, session->store);
  say_hex(out, session->id, session->id_bytes);
  fprintf(out, " %u %u %.*s", session->schema_version, session->ttl_ms, session->from ? (int)session->from_bytes : 1, session->from ? session->from : "-");
  say_hex(out, session->payload, session->payload_bytes);
}

static backdoors_session listed[4096];
static void on_adopted(void *context, const backdoors_session *session) {
  say_session((FILE *)context, session);
}

/* STORE, then ids to delete, each with one to commit then. */
static char **replaced;
static void on_adopted_replacing(void *context, const backdoors_session *session) {
  char **each = replaced + 1;
  say_session((FILE *)context, session);
  for (; *replaced != NULL && *each != NULL; each += 2) {
    const size_t bytes = bytes_of(each[1]);
    backdoors_delete(node, *replaced, each[0], bytes_of(each[0]));
    backdoors_commit(node, *replaced, each[1], bytes, each[1], bytes, NULL);
  }
  *replaced = NULL;
}

static int poll_daemon(backdoors_adopted adopted) {
  char *told = NULL;
  size_t told_bytes = 0;
  FILE *stream = open_memstream(&told, &told_bytes);
  const int result = backdoors_adopt_poll(node, adopted, stream);
  fclose(stream);
  printf("%d%s", result, told);
  free(told);
  return result;
}

static int list(void) {
  uint32_t cursor = 0;
  int count = 0, result, i;
  while (count < 4096 && (result = backdoors_next(node, &cursor, &listed[count])) != 0) {
    if (result < 0) return result;
    count++;
  }
  printf("%d", count);
  for (i = 0; i < count; i++) say_session(stdout, &listed[i]);
  return 0;
}

/* As `payloadOf` of src/region/testing/writer-box.ts. */
static void make_payload(unsigned char *bytes, const char *id, unsigned commit, size_t length) {
  const size_t id_bytes = strlen(id);
  size_t i;
  for (i = 0; i < length; i++) bytes[i] = (unsigned char)((unsigned char)id[i % id_bytes] * 7u + commit * 31u + i * (commit % 13u) + (i >> 8));
}

static int load(const char *store, unsigned sessions, unsigned most) {
  unsigned char *payload = (unsigned char *)malloc(most + 20);
  unsigned commit, session;
  for (commit = 1;; commit++) {
    for (session = 0; session < sessions; session++) {
      const size_t length = 20 + (commit * 37 + session * 101) % most;
      const backdoors_options options = {0, commit};
      char id[32], line[64];
      int result;
      snprintf(id, sizeof id, "u-%u", session);
      make_payload(payload, id, commit, length);
      result = backdoors_commit(node, store, id, strlen(id), payload, length, &options);
      if (result != 0) {
        free(payload);
        return result;
      }
      /* In the pipe before the next commit begins. */
      if (write(1, line, (size_t)snprintf(line, sizeof line, "%u %u\n", session, commit)) < 0) return -100;
    }
  }
}

static int fork_child(void) {
  const pid_t child = fork();
  if (child != 0) return printf("%d", (int)child);
  backdoors_forked(node);
  close(0);
  close(1);
  close(2);
  for (;;) pause();
}

static int run(char **words) {
  const char *what = words[0];
  backdoors_session session;
  backdoors_sensor sensor;
  int result = -100;
  if (strcmp(what, "clock") == 0) {
    standing_ms = strtoull(words[1], NULL, 10);
    return printf("0");
  }
  bd_make_crc_tables();
  if (strcmp(what, "crc") == 0) return printf("%u", bd_crc32c((unsigned char *)words[2], bytes_of(words[2]), (uint32_t)strtoul(words[1], NULL, 10)));
  if (strcmp(what, "attach") == 0) {
    result = backdoors_attach(&node, words[1], words[2]);
    return result != 0 ? printf("%d", result) : printf("0 %u %u", backdoors_box(node), backdoors_generation(node));
  }
  if (strcmp(what, "fork") == 0) return fork_child();
  if (strcmp(what, "close") == 0) backdoors_close(node), result = 0;
  else if (strcmp(what, "abandon") == 0) bd_dispose(node), result = 0;
  else if (strcmp(what, "commit") == 0) {
    const backdoors_options options = {(uint32_t)strtoul(words[3], NULL, 10), (uint32_t)strtoul(words[4], NULL, 10)};
    const size_t id_bytes = bytes_of(words[2]), payload_bytes = bytes_of(words[5]);
    result = backdoors_commit(node, words[1], words[2], id_bytes, words[5], payload_bytes, &options);
  } else if (strcmp(what, "delete") == 0) result = backdoors_delete(node, words[1], words[2], bytes_of(words[2]));
  else if (strcmp(what, "sweep") == 0) result = backdoors_sweep(node);
  else if (strcmp(what, "fenced") == 0) result = backdoors_fenced(node);
  else if (strcmp(what, "get") == 0) {
    result = backdoors_get(node, words[1], words[2], bytes_of(words[2]), &session);
    printf("%d", result);
    if (result == 0) say_session(stdout, &session);
    return 0;
  } else if (strcmp(what, "list") == 0) return list();
  else if (strcmp(what, "progress") == 0) result = backdoors_progress(node, words[1], (uint32_t)strtoul(words[2], NULL, 10), &sensor);
  else if (strcmp(what, "gauge") == 0) {
    result = backdoors_gauge(node, words[1], atoi(words[2]), &sensor);
    if (result == 0) backdoors_level(&sensor, atof(words[3]), atof(words[4]));
  } else if (strcmp(what, "beat") == 0) {
    result = backdoors_progress(node, words[1], 0, &sensor);
    if (result == 0) result = backdoors_beat(&sensor);
  } else if (strcmp(what, "pending") == 0) {
    result = backdoors_progress(node, words[1], 0, &sensor);
    if (result == 0) backdoors_pending(&sensor, (uint32_t)strtoul(words[2], NULL, 10));
  } else if (strcmp(what, "serve") == 0) result = backdoors_serve(node, words[1]);
  else if (strcmp(what, "poll") == 0) return poll_daemon(on_adopted);
  else if (strcmp(what, "poll-replacing") == 0) {
    replaced = words + 1;
    return poll_daemon(on_adopted_replacing);
  }
  else if (strcmp(what, "load") == 0) result = load(words[1], (unsigned)atoi(words[2]), (unsigned)atoi(words[3]));
  return printf("%d", result);
}

int main(void) {
  char *line = NULL, *words[8], *rest;
  size_t capacity = 0;
  while (getline(&line, &capacity, stdin) > 0) {
    int count = 0;
    for (words[count] = strtok_r(line, " \n", &rest); words[count] != NULL && count < 7;) words[++count] = strtok_r(NULL, " \n", &rest);
    run(words);
    putchar('\n');
    fflush(stdout);
  }
  free(line);
  return 0;
}
