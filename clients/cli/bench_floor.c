#include "clients/cli/bench_floor.h"

#include <math.h>
#include <stdbool.h>

double mbc_linear_bytes(const struct mb_linear *l)
{
    const struct mb_bool_shape *s = &l->boolean.shape;
    double n = (double) l->n_rows * l->n_cols;
    switch (l->kind) {
    case MB_LINEAR_BOOL:
        return (double) (mb_bool_bits_bytes(s) + mb_bool_scale_bytes(s) +
                         mb_bool_coef_bytes(s));
    case MB_LINEAR_F32:
        return n * sizeof(float);
    case MB_LINEAR_F16:
    case MB_LINEAR_BF16:
        break;
    }
    return n * sizeof(uint16_t);
}

double mbc_weight_bytes(const struct mb_model *m)
{
    double sum = mbc_linear_bytes(&m->head);
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            sum += mbc_linear_bytes(&m->blocks[i].linear[l]);
        }
    }
    return sum;
}

/* What a part does, in seconds of each unit. */
struct part {
    double unit_s[MBC_UNITS];
};

static void add_work(struct part *p, const struct mbc_machine *machine, enum mbc_unit u,
                     double n)
{
    p->unit_s[u] += n / machine->all[u];
}

static void add_linear(struct part *p, const struct mbc_machine *machine,
                       const struct mb_linear *l, uint32_t n_planes, uint32_t n_tokens)
{
    double products = (double) n_tokens * l->n_rows * l->n_cols;
    if (n_tokens == 0) {
        return;
    }
    add_work(p, machine, MBC_UNIT_READ, mbc_linear_bytes(l));
    if (l->kind != MB_LINEAR_BOOL) {
        add_work(p, machine, MBC_UNIT_FMA, products);
        return;
    }
    double bits = products * l->boolean.shape.n_kernels * n_planes;
    bool by_bytes =
        products / machine->all[MBC_UNIT_U8S8] <= bits / machine->all[MBC_UNIT_POPCOUNT];
    add_work(p, machine, by_bytes ? MBC_UNIT_U8S8 : MBC_UNIT_POPCOUNT,
             by_bytes ? products : bits);
}

/* A part ends when both reading and computing have: the longer one is its floor, and the unit
 * that computes longest its name. */
static void close_part(struct mbc_floor *f, const struct part *p)
{
    double computing = 0;
    enum mbc_unit most = MBC_UNIT_POPCOUNT;
    for (int u = MBC_UNIT_POPCOUNT; u < MBC_UNITS; u++) {
        computing += p->unit_s[u];
        most = p->unit_s[u] > p->unit_s[most] ? (enum mbc_unit) u : most;
    }
    bool reads = p->unit_s[MBC_UNIT_READ] >= computing;
    double seconds = fmax(p->unit_s[MBC_UNIT_READ], computing);
    f->seconds += seconds;
    f->unit_s[reads ? MBC_UNIT_READ : most] += seconds;
}

void mbc_floor_add(struct mbc_floor *f, const struct mbc_machine *machine,
                   const struct mb_model *m, enum mb_kv_type kv_type,
                   const struct mbc_floor_step *step)
{
    const struct mb_shape *s = &m->shape;
    struct part products = { 0 }, attention = { 0 }, head = { 0 };
    for (uint32_t i = 0; i < s->n_layers; i++) {
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            add_linear(&products, machine, &m->blocks[i].linear[l], s->n_planes,
                       step->n_tokens);
        }
    }
    add_linear(&head, machine, &m->head, s->n_planes, step->n_logits);

    double position_bytes = (double) mb_kv_block_bytes(s, kv_type) / MB_KV_BLOCK;
    add_work(&attention, machine, MBC_UNIT_READ, step->positions_stored * position_bytes);
    add_work(&attention, machine, MBC_UNIT_FMA,
             2 * step->positions_seen * (double) mb_shape_q_width(s) * s->n_layers);

    close_part(f, &products);
    close_part(f, &attention);
    close_part(f, &head);
}

enum mbc_unit mbc_floor_limit(const struct mbc_floor *f)
{
    enum mbc_unit most = MBC_UNIT_READ;
    for (int u = 0; u < MBC_UNITS; u++) {
        most = f->unit_s[u] > f->unit_s[most] ? (enum mbc_unit) u : most;
    }
    return most;
}
