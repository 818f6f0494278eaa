/* A process whose stack is known: what a debugger shows of its core is held against this. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) int innermost(int depth) {
  volatile int marker = depth;
  pause();
  return marker;
}
__attribute__((noinline)) int middle(int depth) { return innermost(depth + 1) + 1; }
__attribute__((noinline)) int outer(int depth) { return middle(depth + 1) + 1; }

static void *other_thread(void *nothing) {
  for (;;) pause();
  return nothing;
}

int main(void) {
  pthread_t other;
  if (pthread_create(&other, NULL, other_thread, NULL) != 0) return 1;
  puts("waiting");
  fflush(stdout);
  return outer(1);
}
