/* bench_linear: one round of the linear model (fit, predict) against the two matrix-vector products that it
 * cannot do without, and against preparing it. `bench_linear N d K LAMBDA` for another shape. */
#define _GNU_SOURCE
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "assistor/model.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void least(double *best, double start)
{
    double seconds = now() - start;

    if (seconds < *best)
        *best = seconds;
}

static void products(const struct mat *X, const struct mat *r, struct mat *g, struct mat *f)
{
    int n = (int)X->n, d = (int)X->k, k = (int)r->k;

    if (k == 1) {
        cblas_dgemv(CblasRowMajor, CblasTrans, n, d, 1, X->a, d, r->a, 1, 0, g->a, 1);
        cblas_dgemv(CblasRowMajor, CblasNoTrans, n, d, 1, X->a, d, g->a, 1, 0, f->a, 1);
        return;
    }
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, d, k, n, 1, X->a, d, r->a, k, 0, g->a, k);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, k, d, 1, X->a, d, g->a, k, 0, f->a, k);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000,
           d = argc > 2 ? strtoul(argv[2], NULL, 10) : 16;
    size_t k = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    struct model_param param = {"lambda", argc > 4 ? argv[4] : "0.001"};
    struct mat X, r, f, g;
    double fit = 1e9, predict = 1e9, raw = 1e9, start;

    if (mat_init(&X, n, d) || mat_init(&r, n, k) || mat_init(&f, n, k) || mat_init(&g, d, k))
        return 1;
    for (size_t i = 0; i < n * d; i++)
        X.a[i] = drand48() - 0.5;
    for (size_t i = 0; i < n * k; i++)
        r.a[i] = drand48() - 0.5;
    start = now();
    void *state = model_linear.prepare(&X, (uint32_t)k, &param, 1);
    double prepare = now() - start;
    for (int i = 0; state && i < 9; i++) {
        start = now();
        void *model = model_linear.fit(state, &r);
        least(&fit, start);
        start = now();
        if (!model || model_linear.predict(model, &X, &f))
            return 1;
        least(&predict, start);
        model_linear.free_model(model);
        start = now();
        products(&X, &r, &g, &f);
        least(&raw, start);
    }
    printf("linear N=%zu d=%zu K=%zu lambda=%s: prepare %.1f ms, fit %.2f ms, predict %.2f ms; X'r and Xb "
           "alone %.2f ms: "
           "%.2f times that\n",
           n, d, k, param.value, 1e3 * prepare, 1e3 * fit, 1e3 * predict, 1e3 * raw, (fit + predict) / raw);
    model_linear.free_prepared(state);
    mat_free(&X);
    mat_free(&r);
    mat_free(&f);
    mat_free(&g);
    return state ? 0 : 1;
}
