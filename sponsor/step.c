#include "sponsor/step.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "sponsor/rate.h"
#include "sponsor/weights.h"

int step_init(struct step *s, const struct run *run)
{
    size_t M = run->M, n = run->F.n;
    *s = (struct step){.M = M};
    s->f = calloc(M, sizeof *s->f);
    s->fit = calloc(M, sizeof *s->fit);
    s->on = calloc(M, sizeof *s->on);
    s->absent = calloc(M, sizeof *s->absent);
    s->w = calloc(M, sizeof *s->w);
    s->G = calloc(M * M + 2 * M, sizeof *s->G);
    if (!s->f || !s->on || !s->fit || !s->absent || !s->w || !s->G)
        return -1;
    s->b = s->G + M * M;
    s->v = s->b + M;
    for (size_t m = 0; m < M; m++)
        if (mat_init(&s->f[m], n, run->K) < 0)
            return -1;
    return mat_init(&s->r, run->n_fit, run->K) < 0 ? -1 : mat_init(&s->g, n, run->K);
}

void step_free(struct step *s)
{
    for (size_t m = 0; s->f && m < s->M; m++)
        mat_free(&s->f[m]);
    mat_free(&s->r);
    mat_free(&s->g);
    free(s->f);
    free(s->fit);
    free(s->on);
    free(s->absent);
    free(s->w);
    free(s->G);
}

/* y ← y + a x */
static void add(double a, const struct mat *x, struct mat *y)
{
    for (size_t i = 0; i < x->n * x->k; i++)
        y->a[i] += a * x->a[i];
}

void step_weights(struct step *s, const struct run *run)
{
    size_t on = 0, k = 0;
    for (size_t m = 0; m < s->M; m++)
        if (!s->absent[m]) {
            s->fit[on] = run_fit_rows(run, &s->f[m]);
            s->on[on] = &s->fit[on];
            on++;
        }
    for (size_t i = 0; i < on; i++)
        s->v[i] = 1 / (double)on;
    if (on && !run->task->uniform &&
        (weights_gram(s->on, on, &s->r, s->G, s->b) < 0 || weights_exact(s->G, s->b, on, s->v) < 0))
        log_die(1, "the weights cannot be solved: out of memory");
    memset(s->g.a, 0, s->g.n * s->g.k * sizeof *s->g.a);
    for (size_t m = 0; m < s->M; m++) {
        s->w[m] = s->absent[m] ? 0 : s->v[k++];
        if (s->w[m] != 0)
            add(s->w[m], &s->f[m], &s->g);
    }
}

double step_rate(const struct step *s, const struct run *run)
{
    struct mat F = run_fit_rows(run, &run->F), g = run_fit_rows(run, &s->g);
    if (run->task->fixed_rate > 0)
        return run->task->fixed_rate;
    double eta = rate_search(run->L, run->y, &F, &g);
    if (eta < 0)
        log_die(1, "the rate cannot be searched: out of memory");
    return eta;
}

void step_update(const struct step *s, struct run *run, double eta)
{
    add(eta, &s->g, &run->F);
}
