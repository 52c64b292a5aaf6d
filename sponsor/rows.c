#include "sponsor/rows.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

/* A uniformly random order of n indices: sorted by 64 random bits each, which come from the seed alone. */
struct ticket {
    uint64_t draw;
    uint32_t index;
};

static int compare_tickets(const void *a, const void *b)
{
    const struct ticket *x = a, *y = b;
    return x->draw != y->draw ? (x->draw > y->draw) - (x->draw < y->draw)
                              : (x->index > y->index) - (x->index < y->index);
}

static struct ticket *shuffle(size_t n, uint64_t seed)
{
    uint8_t key[randombytes_SEEDBYTES] = "gal rows";
    struct ticket *t = calloc(n + 1, sizeof *t);
    uint64_t *draws = calloc(n + 1, sizeof *draws);
    if (!t || !draws)
        log_die(1, "out of memory");
    memcpy(key + 16, &seed, sizeof seed);
    randombytes_buf_deterministic(draws, n * sizeof *draws, key);
    for (size_t i = 0; i < n; i++)
        t[i] = (struct ticket){draws[i], (uint32_t)i};
    free(draws);
    qsort(t, n, sizeof *t, compare_tickets);
    return t;
}

void rows_cut(const struct labels *l, double share, uint64_t seed, struct rows *r)
{
    if (share < 0)
        share = floor(0.1 * (double)l->n) >= 100 ? 0.1 : 0;
    size_t groups = l->n_classes ? l->n_classes : 1;
    struct ticket *order = shuffle(l->n, seed);
    bool *held = calloc(l->n + 1, sizeof *held);
    size_t *size = calloc(groups, sizeof *size), *taken = calloc(groups, sizeof *taken);
    r->label = calloc(l->n + 1, sizeof *r->label);
    if (!held || !size || !taken || !r->label)
        log_die(1, "out of memory");
    for (size_t i = 0; i < l->n; i++)
        size[l->n_classes ? (size_t)l->y[i] : 0]++;
    for (size_t i = 0; i < l->n; i++) { /* the first share of each class, in random order */
        size_t g = l->n_classes ? (size_t)l->y[order[i].index] : 0;
        if ((double)taken[g] + 1 <= share * (double)size[g] + 1e-9) {
            taken[g]++;
            held[order[i].index] = true;
        }
    }
    r->n_fit = r->n_answer = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!held[i])
            r->label[r->n_fit++] = (uint32_t)i;
    for (size_t i = 0; i < l->n; i++)
        if (held[i])
            r->label[r->n_fit + r->n_answer++] = (uint32_t)i;
    free(order);
    free(held);
    free(size);
    free(taken);
}

void rows_free(struct rows *r)
{
    free(r->label);
    *r = (struct rows){0};
}
