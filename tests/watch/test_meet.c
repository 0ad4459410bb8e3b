/* The watchdogs of a job find each other: over the loopback, over the host's addresses as those of several hosts do,
 * and not at all where a rank can't open a socket. Runs under mpirun. */
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../shard/ranks_main.h"
#include "watch/meet.h"

enum { MOST = 16 };

static dist d;
static uint64_t seed;
static wire wires[MOST];
static watch_peer peers[MOST];

static int wires_expected(int rank) {
  return d.rank == 0 ? rank > 0 : rank == 0;
}

/* Waits for the next message of a wire. */
static wire_event await(wire *l, message *m) {
  wire_event e = WIRE_NOTHING;
  for (int i = 0; i < 10000 && (e = wire_receive(l, m)) == WIRE_NOTHING; i++) {
    usleep(1000);
  }
  return e;
}

/* Each tells the other side of each wire who it is. */
static void talk(void) {
  static message m;
  for (int r = 0; r < d.ranks; r++) {
    assert_int_equal(wires[r].socket >= 0, wires_expected(r));
    if (wires[r].socket >= 0) {
      assert_true(wire_send(&wires[r], MESSAGE_BEAT, &d.rank, sizeof d.rank));
    }
  }
  for (int r = 0; r < d.ranks; r++) {
    if (wires[r].socket >= 0) {
      assert_int_equal(await(&wires[r], &m), WIRE_MESSAGE);
      assert_memory_equal(m.payload, &r, sizeof r);
    }
  }
}

static void check_peers(void) {
  for (int r = 0; r < d.ranks; r++) {
    if (d.rank == 0 || r == 0 || r == d.rank) {
      assert_string_equal(peers[r].host, d.host);
      assert_int_equal(process_look(&peers[r].process), PROCESS_RUNS);
    }
  }
  assert_int_equal(peers[d.rank].process.pid, getpid());
}

static void meet(const dist *as) {
  memset(peers, 0, sizeof peers);
  status s = watch_meet(as, wires, peers);
  if (s != STATUS_OK && strstr(status_message(), "no IPv4 address") != NULL) {
    print_message("%s\n", status_message());
    skip(); /* a machine without a network */
  }
  if (s != STATUS_OK) {
    fail_msg("%s", status_message());
  }
  talk();
  check_peers();
  assert_int_equal(dist_barrier(&d), STATUS_OK);
  for (int r = 0; r < d.ranks; r++) {
    wire_close(&wires[r]);
  }
}

static void test_one_host(void **state) {
  (void)state;
  assert_int_equal(d.hosts, 1);
  meet(&d);
  meet(&d); /* nothing of the first time is left */
}

static void test_as_on_several_hosts(void **state) {
  (void)state;
  dist several = d;
  several.hosts = 2;
  meet(&several);
}

static void test_a_rank_without_sockets(void **state) {
  (void)state;
  struct rlimit before, none;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  none = before;
  none.rlim_cur = 3;
  if (d.rank == d.ranks - 1) {
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  status s = watch_meet(&d, wires, peers);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_int_equal(s, STATUS_FAILURE); /* on all ranks */
  assert_non_null(strstr(status_message(), "connect"));
  for (int r = 0; r < d.ranks; r++) {
    assert_true(wires[r].socket < 0);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_host),
      cmocka_unit_test(test_as_on_several_hosts),
      cmocka_unit_test(test_a_rank_without_sockets),
  };
  return RANKS_MAIN(NULL, tests);
}
