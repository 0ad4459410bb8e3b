/* What a loop makes of checkpoints whose fate it learns late: which one is the best, how many failures are outlived. */
#include <math.h>

#include "../ckpt/faulty_calls.h"
#include "../ckpt/fixture.h"
#include "train/saves.h"

typedef struct {
  fixture *f;
  char *folder;
  training t;
  saves s;
} loop;

static loop *begin(void) {
  loop *l = calloc(1, sizeof *l);
  faulty_calls_set("");
  l->f = fixture_new(test_seed(), 1);
  l->folder = test_folder();
  l->f->c->checkpoint.keep_last = 100;
  l->f->c->checkpoint.max_failures = 1;
  l->f->state.step = 0;
  l->t = (training){.d = &l->f->d,
                    .c = l->f->c,
                    .checkpoints = l->folder,
                    .m = l->f->m,
                    .state = l->f->state,
                    .writer = fixture_writer(l->f, l->folder, true)};
  l->s = saves_begin(&l->t);
  return l;
}

static void end(loop *l) {
  checkpoint_writer_destroy(l->t.writer);
  fixture_remove(l->folder);
  free(l->folder);
  fixture_free(l->f);
  free(l);
}

/* The state after a step; loss NaN: it was not evaluated. */
static void at(loop *l, int64_t step, double val_loss) {
  l->t.state.step = l->t.state.updates = step;
  l->t.state.val_loss = val_loss;
  saves_judge(&l->t);
}

/* Steps without a checkpoint until the one under way has ended. */
static status until_known(loop *l) {
  status result = STATUS_OK;
  for (int i = 0; i < 60000 && result == STATUS_OK && checkpoint_writer_busy(l->t.writer) >= 0; i++) {
    at(l, l->t.state.step + 1, NAN);
    result = saves_advance(&l->s);
    usleep(1000);
  }
  assert_int_equal(checkpoint_writer_busy(l->t.writer), -1);
  return result;
}

static void assert_best(const loop *l, int64_t step, double loss) {
  assert_int_equal(l->t.state.best_step, step);
  assert_true(l->t.state.best_val_loss == loss);
}

/* What the file says. */
static void assert_named(const loop *l, const char *pointer, const char *name) {
  char path[4096], line[64] = "";
  snprintf(path, sizeof path, "%s/%s", l->folder, pointer);
  FILE *in = fopen(path, "r");
  assert_non_null(in);
  assert_non_null(fgets(line, sizeof line, in));
  fclose(in);
  line[strcspn(line, "\n")] = '\0';
  assert_string_equal(line, name);
}

static loop *begin_with_a_best(void) {
  loop *l = begin();
  at(l, 4, 1.0);
  assert_ok(saves_start(&l->s, false));
  assert_ok(until_known(l));
  assert_best(l, 4, 1.0);
  return l;
}

static void a_best_that_fails_is_taken_back(void **unused) {
  loop *l = begin_with_a_best();
  faulty_calls_set("open:1:1:EIO");
  at(l, 100000, 0.9);
  assert_ok(saves_start(&l->s, false));
  assert_best(l, 100000, 0.9);
  assert_ok(until_known(l));
  assert_best(l, 4, 1.0);
  assert_named(l, "best", "step_00000004.h5");
  assert_int_equal(l->s.failures, 1);
  at(l, 200000, 0.95); /* better than what is there */
  assert_best(l, 200000, 0.95);
  assert_ok(saves_start(&l->s, true));
  assert_named(l, "best", "step_00200000.h5");
  assert_int_equal(l->s.failures, 0);
  end(l);
}

/* The failure is known when the next checkpoint is due: what was no best before is one now. */
static void the_second_best_moves_up(void **unused) {
  loop *l = begin_with_a_best();
  faulty_calls_set("fsync:1:1:slow=50,rename:1:1:EIO");
  at(l, 8, 0.9);
  assert_ok(saves_start(&l->s, false));
  at(l, 12, 0.95);
  assert_best(l, 8, 0.9);
  assert_ok(saves_start(&l->s, true));
  assert_best(l, 12, 0.95);
  assert_named(l, "best", "step_00000012.h5");
  end(l);
}

static void a_newer_best_stays(void **unused) {
  loop *l = begin_with_a_best();
  faulty_calls_set("fsync:1:1:slow=50,rename:1:1:EIO");
  at(l, 8, 0.9);
  assert_ok(saves_start(&l->s, false));
  at(l, 12, 0.8);
  assert_ok(saves_start(&l->s, true));
  assert_best(l, 12, 0.8);
  assert_named(l, "best", "step_00000012.h5");
  end(l);
}

static void too_many_failures_stop_the_run(void **unused) {
  loop *l = begin_with_a_best();
  faulty_calls_set("open:1:0:EROFS");
  at(l, 8, NAN);
  assert_ok(saves_start(&l->s, false));
  at(l, 12, NAN);
  assert_ok(saves_start(&l->s, false)); /* hears of the first one */
  assert_int_equal(l->s.failures, 1);
  assert_fails(STATUS_FAILURE,
               "training stopped: the checkpoint (step 12) could not be written, failure 2 in a row; the newest one is "
               "of step 4",
               until_known(l));
  end(l);
}

/* The run is over: the state that is there is worth one more try. */
static void the_last_one_is_tried_in_any_case(void **unused) {
  for (int well = 0; well <= 1; well++) {
    loop *l = begin_with_a_best();
    l->f->c->checkpoint.max_failures = 0;
    faulty_calls_set(well ? "open:1:1:EROFS" : "open:1:0:EROFS");
    at(l, 8, NAN);
    assert_ok(saves_start(&l->s, false));
    at(l, 12, NAN);
    if (well) {
      assert_ok(saves_start(&l->s, true));
      assert_named(l, "latest", "step_00000012.h5");
    } else {
      assert_fails(
          STATUS_FAILURE,
          "the run's last checkpoint (step 12) could not be written, failure 2 in a row; the newest one is of step 4",
          saves_start(&l->s, true));
      assert_named(l, "latest", "step_00000004.h5");
    }
    end(l);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_best_that_fails_is_taken_back),
      cmocka_unit_test(the_second_best_moves_up),
      cmocka_unit_test(a_newer_best_stays),
      cmocka_unit_test(too_many_failures_stop_the_run),
      cmocka_unit_test(the_last_one_is_tried_in_any_case),
  };
  return cmocka_run_group_tests_name("saves", tests, NULL, NULL);
}
