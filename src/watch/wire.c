#include "watch/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  HEADER_BYTES = offsetof(message, payload),
  LEFT_UNREAD = 64, /* pieces that are taken in before a wire is closed */
};

void wire_open(wire *l, int socket) {
  l->socket = socket;
  l->in_bytes = l->out_bytes = l->out_sent = 0;
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

void wire_close(wire *l) {
  if (l->socket >= 0) {
    /* With something unread, closing would be a reset, which can overtake the last message. */
    char unread[sizeof(message)];
    shutdown(l->socket, SHUT_WR);
    for (int i = 0; i < LEFT_UNREAD && recv(l->socket, unread, sizeof unread, 0) > 0; i++) {
    }
    close(l->socket);
  }
  l->socket = -1;
}

bool wire_flush(wire *l) {
  while (l->socket >= 0 && l->out_sent < l->out_bytes) {
    ssize_t n = send(l->socket, l->out + l->out_sent, l->out_bytes - l->out_sent, MSG_NOSIGNAL);
    if (n <= 0 && errno != EINTR) {
      return false; /* a broken connection shows in wire_receive */
    }
    l->out_sent += n > 0 ? (size_t)n : 0;
  }
  return true;
}

bool wire_send(wire *l, message_type type, const void *payload, size_t bytes) {
  if (l->socket < 0 || !wire_flush(l)) {
    return false;
  }
  bytes = bytes < MESSAGE_BYTES ? bytes : MESSAGE_BYTES;
  const uint32_t header[2] = {type, (uint32_t)bytes};
  memcpy(l->out, header, HEADER_BYTES);
  if (bytes > 0) {
    memcpy(l->out + HEADER_BYTES, payload, bytes);
  }
  l->out_bytes = HEADER_BYTES + bytes;
  l->out_sent = 0;
  wire_flush(l);
  return true;
}

/* How many bytes the message at the front of `in` will have; 0: it is none. */
static size_t expected(const wire *l) {
  uint32_t header[2];
  if (l->in_bytes < HEADER_BYTES) {
    return HEADER_BYTES;
  }
  memcpy(header, l->in, HEADER_BYTES);
  return header[0] < MESSAGE_TYPES && header[1] <= MESSAGE_BYTES ? HEADER_BYTES + header[1] : 0;
}

wire_event wire_receive(wire *l, message *m) {
  while (l->socket >= 0) {
    size_t wanted = expected(l);
    if (wanted == 0) {
      return WIRE_CLOSED;
    }
    if (l->in_bytes >= HEADER_BYTES && l->in_bytes == wanted) {
      memcpy(m, l->in, wanted);
      l->in_bytes = 0;
      return WIRE_MESSAGE;
    }
    ssize_t n = recv(l->socket, l->in + l->in_bytes, wanted - l->in_bytes, 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      return WIRE_NOTHING;
    }
    if (n <= 0) {
      return WIRE_CLOSED;
    }
    l->in_bytes += (size_t)n;
  }
  return WIRE_CLOSED;
}
