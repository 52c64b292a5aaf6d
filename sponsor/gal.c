/* gal: Algorithm 1 of "Gradient Assisted Learning for Decentralized Multi-Organization Collaborations" (Diao, Ding, Tarokh,
 * NeurIPS 2022, arXiv:2106.01425), line by line. Lines in comments that begin with a step of the algorithm are those of
 * docs/ALGORITHM.md; `make check-source` compares them. No sockets, no waiting, no files: those are in peers and run. */
#include "sponsor/gal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "sponsor/rate.h"
#include "sponsor/weights.h"

/* What a round works on; made before the loop. */
struct scratch {
    size_t M;
    struct mat r;          /* N_fit×K: residuals of the FIT rows, the only ones that are computed */
    struct mat *f;         /* M × (n×K): fitted values on all rows of the task */
    struct mat g;          /* n×K: Σ_m w_m f_m */
    const struct mat **on; /* FIT rows of the f that take part in w */
    struct mat *fit;
    double *w, *G, *b, *v;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void scratch_free(struct scratch *s)
{
    for (size_t m = 0; s->f && m < s->M; m++)
        mat_free(&s->f[m]);
    mat_free(&s->r);
    mat_free(&s->g);
    free(s->f);
    free(s->on);
    free(s->fit);
    free(s->w);
    free(s->G);
}

static int scratch_init(struct scratch *s, const struct run *run)
{
    size_t M = s->M = run->M, n = run->F.n;
    s->f = calloc(M, sizeof *s->f);
    s->on = calloc(M, sizeof *s->on);
    s->fit = calloc(M, sizeof *s->fit);
    s->w = calloc(M, sizeof *s->w);
    s->G = calloc(M * M + 2 * M, sizeof *s->G);
    if (!s->f || !s->on || !s->fit || !s->w || !s->G)
        return -1;
    s->b = s->G + M * M;
    s->v = s->b + M;
    for (size_t m = 0; m < M; m++)
        if (mat_init(&s->f[m], n, run->K) < 0)
            return -1;
    return mat_init(&s->r, run->n_fit, run->K) < 0 ? -1 : mat_init(&s->g, n, run->K);
}

/* w over the organizations whose answer is a fit; 0 for the others. −1 if none is. */
static int fit_weights(const struct run *run, const struct peers *p, struct scratch *s)
{
    size_t on = 0, k = 0;
    for (size_t m = 0; m < s->M; m++)
        if (!p->peer[m].invalid) {
            s->fit[on] = run_fit_rows(run, &s->f[m]);
            s->on[on] = &s->fit[on];
            on++;
        }
    memset(s->w, 0, s->M * sizeof *s->w);
    if (on == 0)
        return -1;
    for (size_t i = 0; i < on; i++)
        s->v[i] = 1 / (double)on;
    if (!run->task->uniform &&
        (weights_gram(s->on, on, &s->r, s->G, s->b) < 0 || weights_exact(s->G, s->b, on, s->v) < 0))
        log_die(1, "the weights cannot be solved: out of memory");
    for (size_t m = 0; m < s->M; m++)
        if (!p->peer[m].invalid)
            s->w[m] = s->v[k++];
    return 0;
}

/* y ← y + a x */
static void add(double a, const struct mat *x, struct mat *y)
{
    for (size_t i = 0; i < x->n * x->k; i++)
        y->a[i] += a * x->a[i];
}

/* g ← Σ_m w_m f_m */
static void combine(const struct scratch *s, struct mat *g)
{
    memset(g->a, 0, g->n * g->k * sizeof *g->a);
    for (size_t m = 0; m < s->M; m++)
        if (s->w[m] != 0)
            add(s->w[m], &s->f[m], g);
}

static double fit_rate(const struct run *run, const struct mat *g)
{
    struct mat F = run_fit_rows(run, &run->F), direction = run_fit_rows(run, g);
    if (run->task->fixed_rate > 0)
        return run->task->fixed_rate;
    double eta = rate_search(run->L, run->y, &F, &direction);
    if (eta < 0)
        log_die(1, "the rate cannot be searched: out of memory");
    return eta;
}

int gal_train(struct run *run, struct peers *p, struct store *store, void (*tell)(const struct run *, struct peers *))
{
    struct scratch s = {0};
    uint8_t commitment[DIGEST_BYTES];
    int bad = -1;
    if (scratch_init(&s, run) < 0)
        log_die(1, "out of memory for %zu organizations of %zu×%u values", run->M, run->F.n, run->K);
    while (!run_over(run, peers_deterministic(p))) {
        uint32_t t = run->t + 1;
        double begun = seconds();
        uint64_t out = p->bytes_out, in = p->bytes_in;
        /* r^t ← −∂L(y, F)/∂F at F = F^{t−1} */
        loss_residual(run->L, run->y, &run->F, &s.r);
        /* broadcast r^t to the organizations */
        peers_broadcast(p, run, t, &s.r);
        /* f_m^t ← argmin over f ∈ 𝓕_m of E_N ℓ_m(r^t, f(x_m)), all m at once */
        /* gather f_m^t(x_m) */
        if (peers_gather(p, s.f, 0) < 0)
            goto out;
        /* w^t  ← argmin over w ∈ Δ_M of E_N ℓ_1(r^t, Σ_m w_m f_m^t(x_m)) */
        fit_weights(run, p, &s);
        combine(&s, &s.g);
        /* η^t  ← argmin over η ≥ 0 of E_N L(y, F^{t−1} + η Σ_m w_m f_m^t(x_m)) */
        double eta = fit_rate(run, &s.g);
        /* F^t  ← F^{t−1} + η^t Σ_m w_m^t f_m^t(x_m) */
        add(eta, &s.g, &run->F);
        run_commit(store, run, s.w, eta, seconds() - begun, p->bytes_out - out, p->bytes_in - in, commitment);
        peers_settle(p, run, t, commitment);
        tell(run, p);
    }
    bad = 0;
out:
    scratch_free(&s);
    return bad;
}
