/* What a person can get wrong in a configuration, and what the message must hold. */
#include "config_support.h"

#define M "[model]\n"
#define T "[train]\n"

typedef struct {
  const char *text;
  const char *part;
} bad_case;

/* Wrong on its own: reading refuses it. The file is called quick.ini. */
static const bad_case unreadable[] = {
    /* names */
    {T "lrr = 1\n", "unknown key 'train.lrr' at quick.ini:2; did you mean 'train.lr'?"},
    {"# a\n\n; b\n" T "\n  LR = 1\n", "unknown key 'train.LR' at quick.ini:6; did you mean 'train.lr'?"},
    {T "d_model = 64\n", "unknown key 'train.d_model' at quick.ini:2; did you mean 'model.d_model'?"},
    {M "n_layer = 3\n", "did you mean 'model.n_layers'?"},
    {M "sine_amplitude_init = 3\n", "did you mean 'model.sine_amp_init'?"},
    {M "dmodel = 3\n", "did you mean 'model.d_model'?"},
    {M "vocab_szie = 3\n", "did you mean 'model.vocab_size'?"},
    {"[checkpoint]\ninterval_steps = 3\n",
     "the keys of [checkpoint] are interval, keep_last, keep_every, max_failures"},
    {"[run]\nzzz = 3\n", "the keys of [run] are dir, seed, device, resume, max_minutes"},
    {"[data]\ninterval = 3\n", "unknown key 'data.interval'"},
    {"[modle]\nd_model = 3\n", "unknown section [modle] at quick.ini:1; did you mean [model]?"},
    {"[optimizer]\nlr = 3\n", "unknown section [optimizer] at quick.ini:1; the sections are run, model, data"},
    {"[Train]\nlr = 3\n", "did you mean [train]?"},
    {"lr = 0.1\n", "a key stands before any [section]: unknown key 'lr' at quick.ini:1; did you mean 'train.lr'?"},
    {T "lr = 1\n[model]\nd_mlp = 4\n[train]\nlr = 2\n", "train.lr stands twice in quick.ini, on lines 2 and 6"},
    {T "this is not a pair\n", "'this is not a pair' at quick.ini:2 is neither"},
    {"[train\nlr = 1\n", "'[train' at quick.ini:1 should be a section"},
    {"[train] lr = 1\n", "'[train] lr = 1' at quick.ini:1 should be a section"},
    {T "a_name_that_goes_on_and_on_and_on_until_it_is_longer_than_any = 1\n", "too long for the name of a key"},
    {T " = 1\n", "unknown key 'train.'"},
    /* integers */
    {M "d_model = big\n", "model.d_model = 'big' at quick.ini:2: not an integer; give an integer from 1 to 65536"},
    {M "d_model = 512.5\n", "not an integer"},
    {M "d_model = 5e2\n", "not an integer"},
    {M "d_model = 0x200\n", "not an integer"},
    {M "d_model =\n", "model.d_model = '' at quick.ini:2: not an integer"},
    {M "d_model = 512 256\n", "not an integer"},
    {M "n_layers = 0\n", "model.n_layers = '0' at quick.ini:2: out of range; give an integer from 1 to 1024"},
    {M "n_layers = -3\n", "out of range; give an integer from 1 to 1024"},
    {M "d_mlp = 0\n", "out of range; give an integer from 1 to 1048576, or auto"},
    {M "vocab_size = 1\n", "out of range; give an integer from 2"},
    {M "d_model = auto\n", "not an integer"},
    {"[run]\nseed = 9223372036854775808\n", "out of range; give an integer from 0 to 9223372036854775807"},
    {"[run]\nseed = -1\n", "out of range"},
    {"[run]\nseed = 99999999999999999999999999\n", "out of range"},
    {T "micro_batch = none\n", "not an integer; give an integer from 1 to 65536, or auto"},
    {"[cpu]\nthreads = 0\n", "cpu.threads = '0' at quick.ini:2: out of range"},
    {"[log]\ninterval = 0\n", "log.interval = '0' at quick.ini:2: out of range"},
    {"[checkpoint]\nkeep_last = 0\n", "checkpoint.keep_last = '0' at quick.ini:2: out of range"},
    /* reals */
    {T "lr = fast\n", "train.lr = 'fast' at quick.ini:2: not a finite number; give a number above 0, at most 10"},
    {T "lr = nan\n", "not a finite number"},
    {T "lr = inf\n", "not a finite number"},
    {T "lr = 1e999\n", "not a finite number"},
    {T "lr = 0x1p-3\n", "not a finite number"},
    {T "lr = 0\n", "out of range; give a number above 0, at most 10"},
    {T "lr = -0.1\n", "out of range"},
    {T "lr = 1e-3.5\n", "not a finite number"},
    {T "lr = 0,001\n", "not a finite number"},
    {T "lr = auto\n", "not a finite number"},
    {T "min_lr = -1\n", "out of range; give a number from 0 to 10, or auto"},
    {T "beta1 = 1\n", "train.beta1 = '1' at quick.ini:2: out of range; give a number at least 0, below 1"},
    {T "eps = 0\n", "out of range; give a number from 1e-30 to 1"},
    {M "dropout = 1\n", "out of range; give a number at least 0, below 1"},
    {T "grad_clip = -1\n", "out of range"},
    /* words */
    {M "base = gpt\n",
     "model.base = 'gpt' at quick.ini:2: unknown word; give one of respsann, waveresnet, transformer"},
    {M "base = sgrpsann\n", "this version does not offer it; use respsann, waveresnet or transformer"},
    {M "base =\n", "unknown word"},
    {M "mlp_activation = tanh\n", "give one of auto, sine, gelu, relu"},
    {M "positional_encoding = learned\n", "give one of rope, alibi, sinusoidal"},
    {M "wave_padding = left\n", "give one of causal, same"},
    {M "sine_trainable = maybe\n", "neither true nor false"},
    {"[run]\ndevice = tpu\n", "give one of auto, cpu, cuda"},
    {T "precision = fp64\n", "only the parity cases"},
    {T "precision = int8\n", "give one of auto, fp32"},
    {T "recompute = all\n", "give one of none, cheap, block"},
    {"[parallel]\nstrategy = fsdp\n", "give one of auto, ddp"},
    /* pairs and lists */
    {M "sine_amp_range = 1\n", "only one value; give lo, hi: two numbers from 0 to 1000, or none"},
    {M "sine_damp_range = 1, none\n", "one end has no value; give lo, hi: two numbers from 0 to 1000, or none"},
    {M "sine_amp_range = 1, 2, 3\n", "more than two values"},
    {M "sine_amp_range = 2, 1\n", "the first value is above the second"},
    {M "sine_amp_bounds = a, 1\n", "'a' is no number in range"},
    {M "sine_amp_bounds = -1, 1\n", "'-1' is no number in range"},
    {M "sine_amp_bounds = nan, 1\n", "'nan' is no number in range"},
    {M "sine_amp_bounds = 1,\n", "'' is no number in range"},
    {M "sine_learnable = amplitude, phase\n", "unknown word 'phase'; give auto, none, or a list of amplitude"},
    {M "sine_learnable = decay, decay\n", "'decay' stands twice"},
    {M "sine_learnable = decay,\n", "unknown word ''"},
    /* text */
    {"[run]\nresume =\n", "run.resume = '' at quick.ini:2: empty"},
    {"[data]\ntrain = \"a b.h5\"\n", "quotes would be part of the name"},
    {"[data]\ntrain = a\x01.h5\n", "control character"},
};

/* Each key good, not together: added to a sound configuration. */
static const bad_case unsound[] = {
    {M "d_model = 100\n", "model.d_model = 100 is not a multiple of model.n_heads = 8"},
    {M "d_model = 24\n", "rope needs an even head size, but d_model / n_heads = 24 / 8 = 3"},
    {M "d_model = 9\nn_heads = 3\npositional_encoding = sinusoidal\n", "needs an even model.d_model, not 9"},
    {M "base = transformer\nmlp_activation = sine\n", "mlp_activation = sine is not for model.base = transformer"},
    {M "mlp_activation = relu\n", "mlp_activation = relu is for model.base = transformer alone"},
    {M "base = transformer\nsine_amp_init = 2\n",
     "model.sine_amp_init at quick.ini:9 has no effect: model.base is transformer"},
    {M "mlp_activation = gelu\nsine_freq_init = 2\n",
     "model.sine_freq_init at quick.ini:9 has no effect: model.mlp_activation is gelu"},
    {M "sine_damp_init = 2\nsine_decay_mode = none\n", "has no effect: model.sine_decay_mode is none"},
    {M "sine_amp_range = 1, 2\nsine_amp_init_std = 0.1\n",
     "model.sine_amp_range at quick.ini:8 has no effect: model.sine_amp_init_std draws"},
    {M "sine_freq_range = 1, 2\nsine_freq_init = 3\n", "model.sine_freq_init at quick.ini:9 has no effect"},
    {M "sine_trainable = false\nsine_learnable = decay\n", "model.sine_trainable at quick.ini:8 has no effect"},
    {M "wave_interleave = true\n", "model.wave_interleave at quick.ini:8 has no effect: model.base is respsann"},
    {M "wave_kernel_size = 5\n", "has no effect: model.base is respsann"},
    {M "base = waveresnet\nwave_kernel_size = 5\n", "has no effect: model.wave_interleave is false"},
    {M "base = waveresnet\nwave_padding = same\n", "has no effect: model.wave_interleave is false"},
    {M "base = waveresnet\nwave_dropout = 0.1\n", "has no effect: model.wave_interleave is false"},
    {M "base = waveresnet\nwave_replace = true\n", "model.wave_replace = true needs model.wave_interleave = true"},
    {M "base = waveresnet\nwave_interleave = true\nwave_replace = true\nd_mlp = 64\n",
     "model.d_mlp at quick.ini:11 has no effect: model.wave_replace leaves no MLP"},
    {M "base = waveresnet\nwave_interleave = true\nwave_kernel_size = 4\nwave_padding = same\n",
     "wave_padding = same needs an odd model.wave_kernel_size, not 4"},
    {M "base = waveresnet\nwave_interleave = true\nwave_kernel_size = 1\nwave_dilation_growth = 2\n",
     "has no effect: model.wave_kernel_size is 1"},
    {M "base = waveresnet\nn_layers = 1\nwave_interleave = true\nwave_dilation_growth = 2\n",
     "has no effect: model.n_layers is 1"},
    {M "base = waveresnet\nn_layers = 40\nwave_interleave = true\nwave_dilation_growth = 4\n",
     "model.wave_dilation_growth = 4 makes layer"},
    {"[data]\nseq_len = 1000\n",
     "train.batch_tokens = 131072 is not a multiple of data.seq_len = 1000; the nearest ones are 131000 and 132000"},
    {"[data]\nseq_len = 262144\n", "the nearest ones are 262144"},
    {"[train]\nmicro_batch = 3\n", "128 sequences of 1024 tokens, not a multiple of train.micro_batch = 3"},
    {"[train]\ntokens_target = 1000000\n", "both train.max_steps = 1000 and train.tokens_target = 1000000 are given"},
    {"[train]\nwarmup_steps = 1000\n", "train.warmup_steps = 1000 must be less than the run's 1000 steps"},
    {"[train]\nmin_lr = 0.01\n", "train.min_lr = 0.01 is above train.lr = 0.0002"},
    {"[train]\nweight_decay = 0\ndecay_exclude = norm\n", "has no effect: train.weight_decay is 0"},
    {"[train]\nbatch_tokens = 1099511627776\n[checkpoint]\nkeep_every = 700\n", "keep_every = 700 is not a multiple"},
    {"[train]\nloss_scale = 1024\n",
     "train.loss_scale at quick.ini:8 has no effect: train.precision is auto, which is bf16"},
    {"[train]\nprecision = bf16\nloss_scale_max = 1024\n", "has no effect: train.precision is bf16"},
    {"[train]\nprecision = fp16\nloss_scale = 64\nloss_scale_init = 1024\n", "train.loss_scale is a fixed number"},
    {"[train]\nprecision = fp16\nloss_scale = 1000\n",
     "train.loss_scale = 1000 is not a power of two; the nearest ones are 512 and 1024"},
    {"[train]\nprecision = fp16\nloss_scale_min = 131072\n", "train.loss_scale_init = 65536 is not between"},
    {"[train]\nprecision = fp16\nloss_scale_max = 1024\n", "train.loss_scale_init = 65536 is not between"},
    {"[train]\nprecision = fp16\nloss_scale_init = 33554432\n", "and train.loss_scale_max = 16777216"},
    {"[eval]\ninterval = 10\n", "eval.interval at quick.ini:8 has no effect: data.val is not given"},
    {"[eval]\nbatches = 10\n", "eval.batches at quick.ini:8 has no effect: data.val is not given"},
    {"[checkpoint]\ninterval = 0\nkeep_every = 100\n", "has no effect: checkpoint.interval is 0"},
    {"[data]\nval =\n[eval]\ninterval = 10\n", "has no effect: data.val is not given"},
};

static const bad_case incomplete[] = {
    {"", "run.dir is not given"},
    {"[run]\ndir = a\n", "data.train is not given"},
    {"[run]\ndir = a\n[data]\ntrain = a\n", "give train.max_steps or train.tokens_target"},
    {"[run]\ndir =\n[data]\ntrain = a\n", "run.dir is not given"},
    {"[run]\ndir = a\n[data]\ntrain = a\n[train]\nmax_steps = 1099511627776\nbatch_tokens = 1099511627776\n",
     "more than can be counted"},
};

static const bad_case assignments[] = {
    {"train.lr", "'train.lr' on the command line is not of the form section.key=value"},
    {"=3", "is not of the form"},
    {"lr=3", "unknown key 'lr' on the command line; did you mean 'train.lr'?"},
    {"train.lrr=3", "unknown key 'train.lrr' on the command line; did you mean 'train.lr'?"},
    {"trian.lr=3", "did you mean 'train.lr'?"},
    {"train.lr=x", "train.lr = 'x' on the command line: not a finite number"},
    {"nosuch.nonsense=x", "unknown section [nosuch] on the command line; the sections are"},
    {"run.dir=a ;b", "where a comment would begin"},
    {"run.dir=#b", "where a comment would begin"},
    {"run.dir=a\nb", "control character"},
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void check_message(status result, const bad_case *bad) {
  if (result != STATUS_USER_ERROR || strstr(status_message(), bad->part) == NULL) {
    fail_msg("'%s': status %d, message '%s', which should hold '%s'", bad->text, result,
             result == STATUS_OK ? "" : status_message(), bad->part);
  }
  assert_null(strchr(status_message(), '\n'));
}

static void reading(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(unreadable); i++) {
    config *c;
    assert_ok(config_new(&c));
    check_message(config_read_text(c, unreadable[i].text, "quick.ini"), &unreadable[i]);
    config_free(c);
  }
}

static void check_resolving(const bad_case *bad, const char *before) {
  char text[1000];
  snprintf(text, sizeof text, "%s%s", before, bad->text);
  config *c = read_config(text);
  check_message(config_resolve(c), bad);
  config_free(c);
}

static void resolving(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(unsound); i++) {
    check_resolving(&unsound[i], REQUIRED);
  }
  for (size_t i = 0; i < COUNT(incomplete); i++) {
    check_resolving(&incomplete[i], "");
  }
}

static void overriding(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(assignments); i++) {
    config *c;
    assert_ok(config_new(&c));
    check_message(config_override(c, assignments[i].text), &assignments[i]);
    config_free(c);
  }
}

/* A value that is refused leaves the one before it. */
static void a_refused_value_changes_nothing(void **state) {
  (void)state;
  config *c = read_config(REQUIRED);
  char *before, *after;
  assert_ok(config_text(c, &before));
  for (size_t i = 0; i < COUNT(assignments); i++) {
    assert_int_not_equal(config_override(c, assignments[i].text), STATUS_OK);
  }
  assert_fails(STATUS_USER_ERROR, "run.device = 'tpu' with --device", config_set(c, "run", "device", "tpu", "--device"));
  assert_int_not_equal(config_set(c, "run", "dir", "'x'", "here"), STATUS_OK);
  assert_int_not_equal(config_set(c, "model", "sine_amp_range", "3, 2", "here"), STATUS_OK);
  assert_ok(config_text(c, &after));
  assert_string_equal(before, after);
  free(before);
  free(after);
  config_free(c);
}

int main(void) {
  print_message("%zu bad inputs\n", COUNT(unreadable) + COUNT(unsound) + COUNT(incomplete) + COUNT(assignments));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reading),
      cmocka_unit_test(resolving),
      cmocka_unit_test(overriding),
      cmocka_unit_test(a_refused_value_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
