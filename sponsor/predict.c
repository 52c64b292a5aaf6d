#include "sponsor/predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

enum { CONNECT = 15, ANSWER = 600 }; /* seconds */

/* c[m·T + t−1] = η^t w_m^t for t ≤ T */
static double *coefficients(const struct run *run, uint32_t T)
{
    double *c = calloc(run->M * T + 1, sizeof *c);
    for (size_t m = 0; c && m < run->M; m++)
        for (uint32_t t = 0; t < T; t++)
            c[m * T + t] = run->round[t].rate * run->round[t].w[m];
    return c;
}

/* F ← F + what organization m's answer f says */
static void add_answer(const struct run *run, const struct mat *f, const double *c, uint32_t T,
                       bool per_round, struct mat *F)
{
    size_t K = run->K;
    for (size_t i = 0; i < F->n; i++)
        for (size_t k = 0; k < K; k++)
            if (!per_round)
                F->a[i * K + k] += f->a[i * K + k];
            else
                for (uint32_t t = 0; t < T; t++)
                    F->a[i * K + k] += c[t] * f->a[(i * T + t) * K + k];
}

static int ask(struct run *run, struct peers *p, struct store *s, const uint32_t *rows, size_t n,
               bool per_round, struct mat *F)
{
    uint32_t T = run->best_round;
    double *c = coefficients(run, T);
    struct mat *f = calloc(run->M, sizeof *f);
    bool *absent = calloc(run->M, sizeof *absent);
    int bad = c && f && absent ? 0 : -1;
    for (size_t m = 0; m < run->M && !bad; m++)
        bad = mat_init(&f[m], n, per_round ? run->K * T : run->K);
    if (bad)
        log_die(1, "out of memory");
    peers_ask(p, run, run_next_request(s, run), rows, n, T, per_round ? NULL : c);
    bad = peers_gather(p, f, absent, ANSWER);
    for (size_t m = 0; m < run->M && !bad; m++) {
        if (absent[m]) {
            snprintf(p->failure, sizeof p->failure, "%s answered with values that are not finite",
                     p->peer[m].name);
            bad = -1;
        }
        add_answer(run, &f[m], c + m * T, T, per_round, F);
    }
    for (size_t m = 0; m < run->M; m++)
        mat_free(&f[m]);
    free(f);
    free(absent);
    free(c);
    return bad;
}

int predict_rows(struct run *run, struct peers *p, struct store *s, const char *const *ids,
                 const uint32_t *rows, size_t n, bool per_round, struct mat *F)
{
    if (mat_init(F, n, run->K) < 0)
        log_die(1, "out of memory");
    for (size_t i = 0; i < n; i++)
        memcpy(F->a + i * run->K, run->F0, run->K * sizeof(double));
    if (run->best_round == 0 || n == 0)
        return 0;
    if (peers_task(p, run, ids, CONNECT) == 0 && ask(run, p, s, rows, n, per_round, F) == 0)
        return 0;
    mat_free(F);
    return -1;
}
