#include "watch/meet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { KEY_BYTES = 16, ADDRESSES = 16, PENDING = 32 };

static const double CONNECT_PATIENCE_S = 15, ACCEPT_PATIENCE_S = 20, STRANGER_PATIENCE_S = 5, ATTEMPT_S = 2;

/* What rank 0 tells the others over MPI. */
typedef struct {
  unsigned char key[KEY_BYTES], answer[KEY_BYTES]; /* a rank shows the first, rank 0 then the second */
  uint32_t addresses[ADDRESSES];                   /* network order */
  int n;
  uint16_t port; /* network order */
  watch_peer first;
} invitation;

/* What a rank says first. */
typedef struct {
  unsigned char key[KEY_BYTES];
  int32_t rank;
  watch_peer me;
} hello;

static bool same_key(const unsigned char *a, const unsigned char *b) { /* in constant time */
  unsigned char differs = 0;
  for (int i = 0; i < KEY_BYTES; i++) {
    differs |= a[i] ^ b[i];
  }
  return differs == 0;
}

static watch_peer self(const dist *d) {
  watch_peer p = {.process = process_self()};
  memcpy(p.host, d->host, sizeof p.host);
  return p;
}

/* Rank 0. */

static void list_addresses(invitation *v) {
  struct ifaddrs *all = NULL;
  if (getifaddrs(&all) != 0) {
    return;
  }
  for (const struct ifaddrs *a = all; a != NULL && v->n < ADDRESSES; a = a->ifa_next) {
    if (a->ifa_addr != NULL && a->ifa_addr->sa_family == AF_INET && (a->ifa_flags & IFF_UP) != 0 &&
        (a->ifa_flags & IFF_LOOPBACK) == 0) {
      v->addresses[v->n++] = ((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr.s_addr;
    }
  }
  freeifaddrs(all);
}

static status invite(const dist *d, int *listener, invitation *v) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
  socklen_t length = sizeof at;
  if (d->hosts == 1) {
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v->addresses[v->n++] = at.sin_addr.s_addr;
  } else {
    list_addresses(v);
  }
  REQUIRE(v->n > 0, "%s has no IPv4 address for the watchdog's connections", d->host);
  *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (*listener < 0 || bind(*listener, (const struct sockaddr *)&at, sizeof at) != 0 ||
      listen(*listener, SOMAXCONN) != 0 || getsockname(*listener, (struct sockaddr *)&at, &length) != 0 ||
      getrandom(v->key, KEY_BYTES, 0) != KEY_BYTES || getrandom(v->answer, KEY_BYTES, 0) != KEY_BYTES) {
    FAIL("no port can be opened on %s for the watchdog's connections: %s", d->host, strerror(errno));
  }
  v->port = at.sin_port;
  v->first = self(d);
  return STATUS_OK;
}

/* A connection that has not yet shown who it is. */
typedef struct {
  int socket; /* −1: free */
  double since;
  size_t bytes;
  hello said;
} visitor;

static void dismiss(visitor *v) {
  close(v->socket);
  v->socket = -1;
}

static void take_visitor(int listener, visitor *pending) {
  visitor *place = &pending[0];
  for (int i = 0; i < PENDING; i++) { /* a free place, or that of the one who has been silent for longest */
    if (pending[i].socket < 0 || (place->socket >= 0 && pending[i].since < place->since)) {
      place = &pending[i];
    }
  }
  int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (s < 0) {
    return;
  }
  if (place->socket >= 0) {
    dismiss(place);
  }
  *place = (visitor){.socket = s, .since = clock_seconds()};
}

/* Whether the visitor has become a rank. */
static bool hear_visitor(const dist *d, const invitation *v, visitor *p, wire *wires, watch_peer *peers) {
  ssize_t n = recv(p->socket, (char *)&p->said + p->bytes, sizeof p->said - p->bytes, 0);
  if (n <= 0) {
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
      dismiss(p);
    }
    return false;
  }
  p->bytes += (size_t)n;
  if (p->bytes < sizeof p->said) {
    return false;
  }
  int rank = p->said.rank;
  if (!same_key(p->said.key, v->key) || rank < 1 || rank >= d->ranks || wires[rank].socket >= 0 ||
      send(p->socket, v->answer, KEY_BYTES, MSG_NOSIGNAL) != KEY_BYTES) {
    dismiss(p);
    return false;
  }
  peers[rank] = p->said.me;
  peers[rank].host[sizeof peers[rank].host - 1] = '\0';
  wire_open(&wires[rank], p->socket);
  p->socket = -1;
  return true;
}

static status receive_ranks(const dist *d, int listener, const invitation *v, wire *wires, watch_peer *peers) {
  visitor pending[PENDING];
  struct pollfd waits[PENDING + 1];
  for (int i = 0; i < PENDING; i++) {
    pending[i].socket = -1;
  }
  double start = clock_seconds();
  int missing = d->ranks - 1;
  while (missing > 0 && clock_seconds() - start < ACCEPT_PATIENCE_S) {
    for (int i = 0; i < PENDING; i++) {
      waits[i] = (struct pollfd){.fd = pending[i].socket, .events = POLLIN};
    }
    waits[PENDING] = (struct pollfd){.fd = listener, .events = POLLIN};
    poll(waits, PENDING + 1, 200);
    for (int i = 0; i < PENDING; i++) {
      if (pending[i].socket >= 0 && waits[i].revents != 0 && hear_visitor(d, v, &pending[i], wires, peers)) {
        missing--;
      } else if (pending[i].socket >= 0 && clock_seconds() - pending[i].since > STRANGER_PATIENCE_S) {
        dismiss(&pending[i]);
      }
    }
    if (waits[PENDING].revents != 0) {
      take_visitor(listener, pending);
    }
  }
  for (int i = 0; i < PENDING; i++) {
    if (pending[i].socket >= 0) {
      dismiss(&pending[i]);
    }
  }
  for (int rank = 1; rank < d->ranks; rank++) {
    REQUIRE(wires[rank].socket >= 0, "rank %d has not connected to rank 0 on %s, port %d, in %g s", rank, d->host,
            ntohs(v->port), ACCEPT_PATIENCE_S);
  }
  return STATUS_OK;
}

/* Other ranks. */

/* Waits for a socket, and tells whether it got ready without an error. */
static bool ready(int s, short events) {
  struct pollfd wait = {.fd = s, .events = events};
  int error = 0;
  socklen_t length = sizeof error;
  return poll(&wait, 1, (int)(1000 * ATTEMPT_S)) == 1 && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length) == 0 &&
         error == 0;
}

/* The socket of a connection to the job's rank 0, or −1. */
static int try_address(const dist *d, const invitation *v, uint32_t address) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = address, .sin_port = v->port};
  hello mine = {.rank = d->rank, .me = self(d)};
  memcpy(mine.key, v->key, KEY_BYTES);
  unsigned char answer[KEY_BYTES];
  int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s < 0) {
    return -1;
  }
  if ((connect(s, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS) && ready(s, POLLOUT) &&
      send(s, &mine, sizeof mine, MSG_NOSIGNAL) == (ssize_t)sizeof mine && ready(s, POLLIN) &&
      recv(s, answer, sizeof answer, 0) == (ssize_t)sizeof answer && same_key(answer, v->answer)) {
    return s;
  }
  close(s);
  return -1;
}

static status join(const dist *d, const invitation *v, wire *first) {
  double start = clock_seconds();
  do {
    for (int i = 0; i < v->n && i < ADDRESSES; i++) {
      int s = try_address(d, v, v->addresses[i]);
      if (s >= 0) {
        wire_open(first, s);
        return STATUS_OK;
      }
    }
    poll(NULL, 0, 100);
  } while (clock_seconds() - start < CONNECT_PATIENCE_S);
  char text[INET_ADDRSTRLEN] = "?";
  inet_ntop(AF_INET, &v->addresses[0], text, sizeof text);
  FAIL("rank 0 on %s is not reached at %s, port %d; let the hosts of a job connect to each other", v->first.host, text,
       ntohs(v->port));
}

status watch_meet(const dist *d, wire *wires, watch_peer *peers) {
  invitation v = {.n = 0};
  int listener = -1;
  for (int rank = 0; rank < d->ranks; rank++) {
    wires[rank].socket = -1;
  }
  status s = dist_agree(d, d->rank == 0 ? invite(d, &listener, &v) : STATUS_OK);
  if (s == STATUS_OK) {
    void *data = &v;
    size_t bytes = sizeof v;
    s = dist_broadcast(d, &data, &bytes);
    if (s == STATUS_OK && d->rank != 0) {
      memcpy(&v, data, sizeof v);
      free(data);
    }
  }
  if (s == STATUS_OK) {
    peers[d->rank] = self(d);
    peers[0] = v.first;
    s = dist_agree(d, d->rank == 0 ? receive_ranks(d, listener, &v, wires, peers) : join(d, &v, &wires[0]));
  }
  if (listener >= 0) {
    close(listener);
  }
  for (int rank = 0; s != STATUS_OK && rank < d->ranks; rank++) {
    wire_close(&wires[rank]);
  }
  return s;
}
