/* GET /version and GET /v1/mbool/info: what runs here, and within which bounds. */
#include "proto/json/info_json.h"
#include "server/http/exchange.h"
#include "server/http/router.h"

/* Of all matrices of a model: how many weights, in how many bytes, of how many kernels. */
struct census {
    uint64_t n_weights, n_bytes;
    uint32_t kernels_min, kernels_max;
};

static void count(struct census *c, const struct mb_linear *l)
{
    uint64_t n = (uint64_t) l->n_rows * l->n_cols;
    c->n_weights += n;
    if (l->kind != MB_LINEAR_BOOL) {
        c->n_bytes += n * (l->kind == MB_LINEAR_F32 ? 4 : 2);
        return;
    }
    const struct mb_bool_shape *s = &l->boolean.shape;
    c->n_bytes += mb_bool_bits_bytes(s) + mb_bool_scale_bytes(s) + mb_bool_coef_bytes(s);
    c->kernels_max = s->n_kernels > c->kernels_max ? s->n_kernels : c->kernels_max;
    if (c->kernels_min == 0 || s->n_kernels < c->kernels_min) {
        c->kernels_min = s->n_kernels;
    }
}

static struct census census_of(const struct mb_model *m)
{
    struct census c = { 0 };
    count(&c, &m->embed);
    if (!m->shape.tied_head) {
        count(&c, &m->head);
    }
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        for (size_t l = 0; l < MB_BLOCK_LINEARS; l++) {
            count(&c, &m->blocks[i].linear[l]);
        }
    }
    return c;
}

static struct mb_info_model model_of(const struct mbd_entry *e)
{
    const struct mb_shape *s = &e->base->shape;
    struct census c = census_of(e->epoch->model);
    struct mbd_engine_stats stats;
    mbd_engine_stats(e->base->engine, &stats);
    return (struct mb_info_model) {
        .id = e->name,
        .fingerprint = e->epoch->fingerprint,
        .created = e->since,
        .epoch = e->epoch->model->digest,
        .n_layers = s->n_layers,
        .width = s->width,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_width = s->head_width,
        .ffn_width = s->ffn_width,
        .n_vocab = s->n_vocab,
        .context = s->context,
        .window = s->window,
        .n_planes = s->n_planes,
        .kernels_min = c.kernels_min,
        .kernels_max = c.kernels_max,
        .bits_per_weight = 8.0 * (double) c.n_bytes / (double) c.n_weights,
        .context_max = e->base->context_max,
        .sequences_max = stats.sequences_max,
        .kv_blocks = stats.kv_blocks,
        .kv_block_positions = MB_KV_BLOCK,
    };
}

void mbd_route_version(struct mbd_exchange *x)
{
    mbd_reply_json(x, 200, mb_version_encode(MB_VERSION));
}

void mbd_route_info(struct mbd_exchange *x)
{
    const struct mbd_service *s = mbd_exchange_service(x);
    struct mb_info_model models[MBD_NAMES_MAX];
    struct mb_info info = {
        .version = MB_VERSION,
        .isa = s->isa,
        .threads = s->threads,
        .body_max = s->options->body_max,
        .queue_tokens = s->options->queue_tokens,
        .queue_requests = s->options->queue_requests,
        .step_tokens = s->options->step_tokens,
        .default_max_tokens = s->options->default_max_tokens,
        .models = models,
        .n_models = mbd_registry_count(s->registry),
    };
    for (size_t i = 0; i < info.n_models; i++) {
        models[i] = model_of(mbd_registry_at(s->registry, i));
    }
    mbd_reply_json(x, 200, mb_info_encode(&info));
}
