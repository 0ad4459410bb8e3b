/* Control messages between ranks; run under mpirun with several numbers of ranks. */
#include <string.h>

#include "dist/dist.h"
#include "random_values.h"
#include "ranks_main.h"
#include "unit.h"

static dist d;
static uint64_t seed;

static void ranks_and_hosts(void **state) {
  (void)state;
  assert_in_range(d.rank, 0, d.ranks - 1);
  assert_in_range(d.local_rank, 0, d.local_ranks - 1);
  assert_true(d.host[0] != '\0');
  int64_t hosts = -1, rank = -1;
  assert_int_equal(dist_max(&d, d.hosts, &hosts), STATUS_OK);
  assert_int_equal(hosts, d.hosts);
  assert_int_equal(dist_max(&d, d.rank, &rank), STATUS_OK);
  assert_int_equal(rank, d.ranks - 1);
  if (d.hosts == 1) {
    assert_int_equal(d.local_ranks, d.ranks);
    assert_int_equal(d.local_rank, d.rank);
  }
}

static void largest_of_all(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 20; i++) {
    int64_t wanted = INT64_MIN;
    for (int r = 0; r < d.ranks; r++) {
      int64_t value = random_between(seed, 10 + (uint32_t)r, i, -1000000, 1000000) * 1000003;
      wanted = value > wanted ? value : wanted;
    }
    int64_t got = 0;
    assert_int_equal(dist_max(&d, random_between(seed, 10 + (uint32_t)d.rank, i, -1000000, 1000000) * 1000003, &got),
                     STATUS_OK);
    assert_true(got == wanted);
  }
}

static void broadcast_of(size_t bytes, uint32_t stream) {
  unsigned char *wanted = malloc(bytes + 1);
  assert_non_null(wanted);
  for (size_t i = 0; i < bytes; i++) {
    wanted[i] = (unsigned char)random_word(seed, stream, i);
  }
  void *data = d.rank == 0 ? (void *)wanted : (void *)"poison";
  size_t got = d.rank == 0 ? bytes : 12345;
  assert_int_equal(dist_broadcast(&d, &data, &got), STATUS_OK);
  assert_int_equal(got, bytes);
  if (d.rank != 0) {
    assert_true(bytes == 0 ? data == NULL : memcmp(data, wanted, bytes) == 0);
    free(data);
  }
  free(wanted);
}

static void broadcast_from_rank_0(void **state) {
  (void)state;
  broadcast_of(0, 30);
  broadcast_of(1, 31);
  for (uint32_t i = 0; i < 6; i++) {
    broadcast_of((size_t)random_between(seed, 32, i, 2, 300000), 33 + i);
  }
}

static void gather_to_rank_0(void **state) {
  (void)state;
  enum { COUNT = 3, RANKS = 64 };
  assert_in_range(d.ranks, 1, RANKS);
  double mine[COUNT], all[COUNT * RANKS];
  for (int i = 0; i < COUNT; i++) {
    mine[i] = random_value(seed, 40, (uint64_t)(d.rank * COUNT + i));
  }
  assert_int_equal(dist_gather(&d, mine, COUNT, d.rank == 0 ? all : NULL), STATUS_OK);
  for (int i = 0; d.rank == 0 && i < COUNT * d.ranks; i++) {
    assert_true(all[i] == random_value(seed, 40, (uint64_t)i));
  }
}

static void same_text(void **state) {
  (void)state;
  assert_int_equal(dist_same(&d, "the config", "a = 1\nb = 2\n"), STATUS_OK);
  assert_int_equal(dist_same(&d, "nothing", ""), STATUS_OK);
  if (d.ranks == 1) {
    return;
  }
  int odd = (int)random_between(seed, 50, 0, 1, d.ranks - 1);
  assert_int_equal(dist_same(&d, "the config", d.rank >= odd ? "a = 2" : "a = 1"), STATUS_USER_ERROR);
  char rank[32];
  snprintf(rank, sizeof rank, "rank %d on ", odd);
  assert_non_null(strstr(status_message(), "the config"));
  assert_non_null(strstr(status_message(), rank));
  assert_non_null(strstr(status_message(), d.host)); /* the tests run on one host */
  assert_int_equal(dist_alike(&d, "the GPU", "a card", "buy more"), STATUS_OK);
  assert_int_equal(dist_alike(&d, "the GPU", d.rank >= odd ? "another card" : "a card", "buy more"), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "rank 0 has a card, rank"));
  assert_non_null(strstr(status_message(), rank));
  assert_non_null(strstr(status_message(), "has another card; buy more"));
}

static status refuse(int rank) {
  USER_ERROR("there is no file named %d", rank);
}

static status break_down(int rank) {
  FAIL("disk %d is full", rank);
}

static void agree_on_the_worst(void **state) {
  (void)state;
  assert_int_equal(dist_agree(&d, STATUS_OK), STATUS_OK);
  int odd = (int)random_between(seed, 60, 0, 0, d.ranks - 1);
  assert_int_equal(dist_agree(&d, d.rank == odd ? break_down(odd) : STATUS_OK), STATUS_FAILURE);
  char text[64];
  snprintf(text, sizeof text, "disk %d is full", odd);
  if (d.rank == odd) {
    assert_string_equal(status_message(), text);
  } else {
    char rank[32];
    snprintf(rank, sizeof rank, "rank %d on ", odd);
    assert_non_null(strstr(status_message(), rank));
    assert_non_null(strstr(status_message(), text));
  }
  if (d.ranks >= 3) { /* rank 0 breaks down, rank 1 refuses: the refusal is the worse, and rank 2 hears of it */
    status mine = d.rank == 0 ? break_down(0) : d.rank == 1 ? refuse(1) : STATUS_OK;
    assert_int_equal(dist_agree(&d, mine), STATUS_USER_ERROR);
    assert_non_null(strstr(status_message(), d.rank == 0 ? "disk 0 is full" : "there is no file named 1"));
  }
}

static void one_rank_without_mpi(void **state) {
  (void)state;
  dist one;
  dist_single(&one);
  assert_int_equal(one.ranks, 1);
  assert_int_equal(one.rank, 0);
  int64_t largest = 0;
  assert_int_equal(dist_max(&one, 42 + d.rank, &largest), STATUS_OK);
  assert_int_equal(largest, 42 + d.rank);
  void *data = &largest;
  size_t bytes = sizeof largest;
  assert_int_equal(dist_broadcast(&one, &data, &bytes), STATUS_OK);
  assert_ptr_equal(data, &largest);
  double mine = 1.5, all = 0;
  assert_int_equal(dist_gather(&one, &mine, 1, &all), STATUS_OK);
  assert_true(all == 1.5);
  assert_int_equal(dist_same(&one, "text", "text"), STATUS_OK);
  assert_int_equal(dist_agree(&one, STATUS_FAILURE), STATUS_FAILURE);
  assert_int_equal(dist_barrier(&one), STATUS_OK);
}

static void everyone_meets(void **state) {
  (void)state;
  assert_int_equal(dist_barrier(&d), STATUS_OK);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranks_and_hosts),      cmocka_unit_test(largest_of_all), cmocka_unit_test(broadcast_from_rank_0),
      cmocka_unit_test(gather_to_rank_0),     cmocka_unit_test(same_text),      cmocka_unit_test(agree_on_the_worst),
      cmocka_unit_test(one_rank_without_mpi), cmocka_unit_test(everyone_meets),
  };
  return RANKS_MAIN(NULL, tests);
}
