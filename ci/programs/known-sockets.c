/*
 * Holds sockets whose queues stand still, over IPv4 and IPv6: datagrams and bytes that nobody reads, bytes that find no room at the other
 * end, a connection that nobody accepts. What is read of a dead kernel is held against what the living one said of these.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { unread_bytes = 1000, backlog = 5 };
static char bytes[1 << 16];

/* An address of this machine alone. */
static union address {
  struct sockaddr any;
  struct sockaddr_in four;
  struct sockaddr_in6 six;
} address;

static int open_bound(int family, int type) {
  socklen_t length = family == AF_INET ? sizeof address.four : sizeof address.six;
  address = (union address){0};
  address.any.sa_family = (sa_family_t)family;
  if (family == AF_INET) address.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else address.six.sin6_addr = in6addr_loopback;
  int it = socket(family, type, 0);
  if (it < 0 || bind(it, &address.any, length) != 0 || getsockname(it, &address.any, &length) != 0) err(1, "socket");
  return it;
}

static int open_connected(int family) {
  int it = socket(family, SOCK_STREAM, 0);
  if (it < 0 || connect(it, &address.any, sizeof address) != 0) err(1, "connect");
  return it;
}

static void hold_datagrams(int family) {
  int it = open_bound(family, SOCK_DGRAM);
  socklen_t length = family == AF_INET ? sizeof address.four : sizeof address.six;
  for (size_t count = 1; count <= 3; count++)
    if (sendto(it, bytes, 100 * count, 0, &address.any, length) < 0) err(1, "sendto");
}

static void hold_connections(int family) {
  int listener = open_bound(family, SOCK_STREAM);
  if (listen(listener, backlog) != 0) err(1, "listen");
  int some = open_connected(family);
  int full = open_connected(family);
  if (accept(listener, NULL, NULL) < 0 || accept(listener, NULL, NULL) < 0) err(1, "accept");
  open_connected(family);
  if (send(some, bytes, unread_bytes, 0) != unread_bytes) err(1, "send");
  while (send(full, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
}

int main(void) {
  const int families[] = {AF_INET, AF_INET6};
  for (size_t i = 0; i < 2; i++) {
    hold_datagrams(families[i]);
    hold_connections(families[i]);
  }
  /* What is under way at the end of the last `send` arrives. */
  sleep(1);
  puts("waiting");
  fflush(stdout);
  pause();
  return 0;
}
