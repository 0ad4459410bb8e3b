// The C++ front end of cuDNN behind C functions: it writes some 60 descriptors of the backend's attention pattern that
// its C interface would have us repeat.
#include "attention_cudnn.h"

#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

namespace fe = cudnn_frontend;

namespace {

enum uid : int64_t { Q = 1, K, V, O, STATS, DO, DQ, DK, DV };

// (bf16, unordered, B, T, H, h, backward)
using key = std::tuple<bool, bool, int64_t, int64_t, int64_t, int64_t, bool>;

std::shared_ptr<fe::graph::Tensor_attributes> packed(fe::graph::Graph &g, int64_t id, const char *name, int64_t B,
                                                     int64_t T, int64_t H, int64_t h, int64_t parts) {
  return g.tensor(fe::graph::Tensor_attributes()
                      .set_name(name)
                      .set_uid(id)
                      .set_dim({B, H, T, h})
                      .set_stride({T * parts * H * h, h, parts * H * h, 1}));
}

void output(const std::shared_ptr<fe::graph::Tensor_attributes> &t, int64_t id, int64_t B, int64_t T, int64_t H,
            int64_t h, int64_t parts) {
  t->set_output(true).set_uid(id).set_dim({B, H, T, h}).set_stride({T * parts * H * h, h, parts * H * h, 1});
}

}  // namespace

struct attention_cudnn {
  cudnnHandle_t handle = nullptr;
  std::map<key, std::shared_ptr<fe::graph::Graph>> graphs;

  std::shared_ptr<fe::graph::Graph> describe(const attention_shape &s, bool backward) {
    auto [bf16, unordered, B, T, H, h] = s;
    auto g = std::make_shared<fe::graph::Graph>();
    g->set_io_data_type(bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    auto q = packed(*g, Q, "q", B, T, H, h, 3), k = packed(*g, K, "k", B, T, H, h, 3),
         v = packed(*g, V, "v", B, T, H, h, 3);
    float scale = (float)(1.0 / std::sqrt((double)h));
    if (!backward) {
      auto options = fe::graph::SDPA_attributes()
                         .set_name("attention")
                         .set_generate_stats(true)
                         .set_causal_mask(true)
                         .set_attn_scale(scale);
      auto [o, stats] = g->sdpa(q, k, v, options);
      output(o, O, B, T, H, h, 1);
      stats->set_output(true).set_data_type(fe::DataType_t::FLOAT).set_uid(STATS);
      return g;
    }
    auto o = packed(*g, O, "o", B, T, H, h, 1), d_o = packed(*g, DO, "do", B, T, H, h, 1);
    auto stats = g->tensor(fe::graph::Tensor_attributes()
                               .set_name("stats")
                               .set_uid(STATS)
                               .set_dim({B, H, T, 1})
                               .set_stride({H * T, T, 1, 1})
                               .set_data_type(fe::DataType_t::FLOAT));
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention backward")
                       .set_causal_mask(true)
                       .set_attn_scale(scale)
                       .set_deterministic_algorithm(!unordered);
    auto [dq, dk, dv] = g->sdpa_backward(q, k, v, o, d_o, stats, options);
    output(dq, DQ, B, T, H, h, 3);
    output(dk, DK, B, T, H, h, 3);
    output(dv, DV, B, T, H, h, 3);
    return g;
  }

  status graph_of(const attention_shape &s, bool backward, fe::graph::Graph **out) {
    key id{s.bf16, s.unordered, s.B, s.T, s.H, s.h, backward};
    auto found = graphs.find(id);
    if (found == graphs.end()) {
      auto g = describe(s, backward);
      auto built = g->build(handle, {fe::HeurMode_t::A});
      if (built.is_bad()) {
        FAIL("cuDNN can't build attention for B %ld, T %ld, H %ld, head size %ld (%s): %s", (long)s.B, (long)s.T,
             (long)s.H, (long)s.h, backward ? "backward" : "forward", built.get_message().c_str());
      }
      found = graphs.emplace(id, g).first;
    }
    *out = found->second.get();
    return STATUS_OK;
  }

  status execute(fe::graph::Graph *g, cudaStream_t stream, std::unordered_map<int64_t, void *> &pointers,
                 void *workspace) {
    if (cudnnSetStream(handle, stream) != CUDNN_STATUS_SUCCESS) {
      FAIL("cuDNN does not take the stream");
    }
    auto done = g->execute(handle, pointers, workspace);
    if (done.is_bad()) {
      FAIL("cuDNN's attention failed: %s", done.get_message().c_str());
    }
    return STATUS_OK;
  }
};

status attention_cudnn_create(attention_cudnn **out) {
  *out = new attention_cudnn;
  if (cudnnCreate(&(*out)->handle) != CUDNN_STATUS_SUCCESS) {
    delete *out;
    *out = nullptr;
  }
  return STATUS_OK;
}

void attention_cudnn_free(attention_cudnn *c) {
  if (!c) return;
  c->graphs.clear();
  cudnnDestroy(c->handle);
  delete c;
}

status attention_cudnn_plan(attention_cudnn *c, const attention_shape *s, bool training, size_t *workspace) {
  *workspace = 0;
  for (int backward = 0; backward <= (training ? 1 : 0); backward++) {
    fe::graph::Graph *g;
    TRY(c->graph_of(*s, backward, &g));
    int64_t bytes = 0;
    if (g->get_workspace_size(bytes).is_bad()) {
      FAIL("cuDNN does not tell the workspace of its attention");
    }
    if ((size_t)bytes > *workspace) *workspace = (size_t)bytes;
  }
  return STATUS_OK;
}

status attention_cudnn_forward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                               void *out, void *lse, void *workspace) {
  fe::graph::Graph *g;
  TRY(c->graph_of(*s, false, &g));
  size_t part = (size_t)(s->H * s->h) * 2;
  char *q = (char *)qkv;
  std::unordered_map<int64_t, void *> pointers = {{Q, q}, {K, q + part}, {V, q + 2 * part}, {O, out}, {STATS, lse}};
  return c->execute(g, stream, pointers, workspace);
}

status attention_cudnn_backward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                                const void *out, const void *lse, const void *dout, void *dqkv, void *workspace) {
  fe::graph::Graph *g;
  TRY(c->graph_of(*s, true, &g));
  size_t part = (size_t)(s->H * s->h) * 2;
  char *q = (char *)qkv, *d = (char *)dqkv;
  std::unordered_map<int64_t, void *> pointers = {{Q, q},           {K, q + part},        {V, q + 2 * part},
                                                  {O, (void *)out}, {STATS, (void *)lse}, {DO, (void *)dout},
                                                  {DQ, d},          {DK, d + part},       {DV, d + 2 * part}};
  return c->execute(g, stream, pointers, workspace);
}
