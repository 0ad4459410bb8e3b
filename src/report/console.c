#include "report/console.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "report/numbers.h"
#include "report/shell_words.h"
#include "report/version.h"
#include "shard/weight_store.h"

/* "12.3 GFLOP" into text (at least 32 bytes). */
static const char *flop_text(double flop, char *text) {
  static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E", "Z"};
  size_t i = 0;
  while (flop >= 1000 && i + 1 < sizeof prefixes / sizeof prefixes[0]) {
    flop /= 1000;
    i++;
  }
  snprintf(text, 32, "%.3g %sFLOP", flop, prefixes[i]);
  return text;
}

static void start_offload(const console_run *r) {
  if (r->c->parallel.offload == OFFLOAD_NONE) {
    return;
  }
  if (r->e->host_memory) {
    log_line("offload   optimizer: on the CPU all memory is the host's, so this saves none");
  } else if (r->e->compute == r->e->state) {
    log_line("offload   optimizer: the moments lie in the host's memory; the master weights are what the model reads");
  } else {
    log_line("offload   optimizer: master weights and moments lie in the host's memory");
  }
}

static void start_machine(const console_run *r) {
  char total[32], available[32];
  const system_facts *f = r->machine;
  log_line("psann %s (commit %s)", version_number(), version_commit());
  log_line("machine   %s: %s, %d core%s, %s of %s memory free", r->d->host, f->cpu, f->machine_cores,
           f->machine_cores == 1 ? "" : "s", memory_text(f->memory_available, available),
           memory_text(f->memory_total, total));
  log_line("ranks     %d on %d host%s, strategy %s", r->d->ranks, r->d->hosts, r->d->hosts == 1 ? "" : "s",
           config_strategy_name(r->c->parallel.strategy));
  log_line("engine    %s", r->e->description);
  start_offload(r);
  if (r->d->local_ranks * (int)r->c->cpu.threads > f->machine_cores) {
    log_warning("%d ranks of %lld thread%s share the %d cores of %s: they will wait for each other", r->d->local_ranks,
                (long long)r->c->cpu.threads, r->c->cpu.threads == 1 ? "" : "s", f->machine_cores, r->d->host);
  }
}

static void start_model(const console_run *r) {
  static const char *const positions[] = {"RoPE", "ALiBi", "sinusoidal positions"};
  static const char *const activations[] = {"auto", "sine", "GELU", "ReLU"};
  const config_model *m = &r->c->model;
  char parameters[32];
  log_line("model     %s%s: %s parameters, width %lld, %lld layers, %lld heads, MLP %lld %s, %s, vocabulary %lld",
           config_base_name(m->base),
           !m->wave_interleave ? ""
           : m->wave_replace   ? " with temporal convolution for the MLP"
                               : " with temporal convolution",
           number_grouped(r->m->parameters, parameters), (long long)m->d_model, (long long)m->n_layers,
           (long long)m->n_heads, (long long)m->d_mlp, activations[m->mlp_activation],
           positions[m->positional_encoding], (long long)m->vocab_size);
}

static void start_data(const console_run *r) {
  char tokens[32], windows[32];
  const config *c = r->c;
  double sequences = (double)c->train.max_steps * (double)(c->train.batch_tokens / c->data.seq_len);
  log_line("data      %s: %s tokens (%s), %s windows of %lld; the run reads them %.3g times", c->data.train,
           number_grouped(r->train->tokens, tokens), r->train->tokenizer, number_grouped(r->windows, windows),
           (long long)c->data.seq_len, sequences / (double)r->windows);
  if (r->val != NULL) {
    log_line("          %s: %s tokens for evaluation", c->data.val, number_grouped(r->val->tokens, tokens));
  } else {
    log_line("          no evaluation (data.val is not given)");
  }
}

static void start_schedule(const console_run *r) {
  const config *c = r->c;
  char steps[32], batch[32], token[32], step[32], all[32];
  double flop = plan_flop_per_token(r->m, c->data.seq_len);
  double tokens = (double)c->train.batch_tokens;
  log_line(
      "schedule  %s steps of %s tokens: %lld micro-batches of %lld × %lld; lr %g after %lld steps of warm-up, then a "
      "cosine to %g",
      number_grouped(c->train.max_steps, steps), number_grouped(c->train.batch_tokens, batch),
      (long long)r->micro_batches, (long long)c->train.micro_batch, (long long)c->data.seq_len, c->train.lr,
      (long long)c->train.warmup_steps, c->train.min_lr);
  log_line("work      %s a token, %s a step, %s the run (training, attention counted causally)", flop_text(flop, token),
           flop_text(flop * tokens, step), flop_text(flop * tokens * (double)c->train.max_steps, all));
}

void console_start(const console_run *r) {
  if (r->d->rank != 0) {
    return;
  }
  start_machine(r);
  start_model(r);
  start_data(r);
  start_schedule(r);
  plan_print(r->plan, r->memory_available, r->host_available);
  const char *identity = weight_store_identity(r->d->ranks, r->micro_batches);
  if (identity[0] != 0) {
    log_line("identity  %s", identity);
  }
  if (r->resumed_from != NULL) {
    log_line("resume    from step %lld: %s", (long long)r->first_step, r->resumed_from);
  }
}

void console_step(const metrics_row *row, const console_pace *pace) {
  char eta[32], scale[48] = "";
  if (!isnan(row->loss_scale)) {
    snprintf(scale, sizeof scale, " loss_scale=%.17g", row->loss_scale);
  }
  log_line(
      "epoch=%lld step=%lld loss=%.4f ppl=%.3f lr=%.6g grad_norm=%.3f toks/step~%lld tok/s=%.0f done=%.1f%% eta=%s%s",
      (long long)floor(row->epoch) + 1, (long long)row->step, row->loss, row->ppl, row->lr, row->grad_norm,
      (long long)pace->batch_tokens, pace->tok_s, 100.0 * (double)row->step / (double)pace->steps,
      clock_duration(pace->eta, eta), scale);
}

enum { BAR = 24 };

static const char *bar(double share, char text[BAR + 1]) {
  int full = (int)(share * BAR);
  for (int i = 0; i < BAR; i++) {
    text[i] = i < full ? '=' : i == full ? '>' : ' ';
  }
  text[BAR] = 0;
  return text;
}

void console_progress(const metrics_row *row, const console_pace *pace) {
  char text[BAR + 1], eta[32];
  double share = (double)row->step / (double)pace->steps;
  log_progress("[%s] %3.0f%%  step %lld/%lld  loss %.4f  %.0f tok/s  %s left", bar(share, text), 100 * share,
               (long long)row->step, (long long)pace->steps, row->loss, pace->tok_s, clock_duration(pace->eta, eta));
}

void console_evaluating(int64_t done, int64_t of) {
  char text[BAR + 1];
  double share = (double)done / (double)of;
  log_progress("[%s] %3.0f%%  evaluation", bar(share, text), 100 * share);
}

void console_evaluation(int64_t step, int64_t tokens, double loss, double ppl, double bits_per_byte, double accuracy,
                        double seconds, bool best) {
  char bits[48] = "";
  if (!isnan(bits_per_byte)) {
    snprintf(bits, sizeof bits, " bits_per_byte=%.4f", bits_per_byte);
  }
  log_line("[eval] step=%lld tokens=%lld loss=%.4f ppl=%.3f dt=%.1fs%s accuracy=%.4f%s", (long long)step,
           (long long)tokens, loss, ppl, seconds, bits, accuracy, best ? " best" : "");
}

static void resume_command(const console_summary *s) {
  char line[4096] = "";
  if (s->ranks > 1) {
    snprintf(line, sizeof line, " mpirun -np %d", s->ranks);
  }
  for (int i = 0; i < s->argc; i++) {
    shell_add_word(line, sizeof line, s->argv[i]);
  }
  log_line("  go on     %s", line + 1);
}

void console_end(const console_summary *s) {
  static const char *const endings[] = {"finished", "stopped by a signal", "stopped at run.max_minutes",
                                        "nothing to do: the run was finished before"};
  char duration[32], line[4096] = "";
  if (s->launch_steps > 0) {
    log_line("%s at step %lld of %lld after %s: %lld step%s in this launch, %.0f tok/s, last loss %.4f",
             endings[s->ending], (long long)s->step, (long long)s->steps, clock_duration(s->seconds, duration),
             (long long)s->launch_steps, s->launch_steps == 1 ? "" : "s", s->tok_s, s->loss);
  } else {
    log_line("%s (step %lld of %lld)", endings[s->ending], (long long)s->step, (long long)s->steps);
  }
  if (isfinite(s->best_val_loss)) {
    log_line("best validation loss %.4f (perplexity %.3f) at step %lld", s->best_val_loss, exp(s->best_val_loss),
             (long long)s->best_step);
  }
  if (s->step == 0) {
    return;
  }
  log_line("next:");
  if (s->step < s->steps) {
    resume_command(s);
  }
  shell_add_word(line, sizeof line, s->c->run.dir);
  log_line("  report     psann_report%s", line);
  if (s->writes) {
    log_line("  write text psann_generate%s 'Once upon a time'", line);
  }
  if (s->c->data.val != NULL && s->c->data.val[0] != 0) {
    shell_add_word(line, sizeof line, s->c->data.val);
    log_line("  evaluate   psann_eval%s", line);
  }
}
