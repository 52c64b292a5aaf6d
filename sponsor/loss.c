/* loss: the table of overarching losses, a row each. To add one, write its four functions and its row;
 * test_loss.c then proves its residual and its derivatives by finite differences. */
#include "sponsor/loss.h"

#include <math.h>
#include <string.h>

#define UNUSED __attribute__((unused))

/* squared: ½(y−F)² */

static double squared_value(double y, const double *F, size_t K UNUSED)
{
    return 0.5 * (y - *F) * (y - *F);
}

static void squared_residual(double y, const double *F, size_t K UNUSED, double *r)
{
    *r = y - *F;
}

static void squared_along(double y, const double *F, const double *g, size_t K UNUSED, double *d1, double *d2)
{
    *d1 = (*F - y) * *g;
    *d2 = *g * *g;
}

static void squared_constant(const double *y, size_t n, size_t K UNUSED, double *F0)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += y[i];
    *F0 = sum / (double)n;
}

/* absolute: |y−F| */

static double absolute_value(double y, const double *F, size_t K UNUSED)
{
    return fabs(y - *F);
}

/* A fit that meets a label leaves rounding noise behind, whose sign would be broadcast as ±1: hence the
 * tolerance. */
static void absolute_residual(double y, const double *F, size_t K UNUSED, double *r)
{
    double d = y - *F;

    *r = fabs(d) <= 1e-9 * fmax(1, fabs(y)) ? 0 : copysign(1, d);
}

static void absolute_along(double y, const double *F, const double *g, size_t K, double *d1, double *d2)
{
    double r;

    absolute_residual(y, F, K, &r);
    *d1 = -r * *g;
    *d2 = 0;
}

/* Maps doubles to integers of the same order: IEEE 754 sorts by bits once the sign is dealt with. */
static uint64_t key(double v)
{
    uint64_t u;

    memcpy(&u, &v, sizeof u);
    return u >> 63 ? ~u : u | (uint64_t)1 << 63;
}

static double unkey(uint64_t u)
{
    double v;

    u = u >> 63 ? u ^ (uint64_t)1 << 63 : ~u;
    memcpy(&v, &u, sizeof v);
    return v;
}

/* The value of rank `rank` (from 0): the largest v with at most `rank` values below it, found bit by bit in
 * 64 passes. No copy and no sorting, so that F⁰ cannot fail. */
static double order_statistic(const double *y, size_t n, size_t rank)
{
    uint64_t v = 0;

    for (int bit = 63; bit >= 0; bit--) {
        uint64_t trial = v | (uint64_t)1 << bit;
        size_t below = 0;
        for (size_t i = 0; i < n; i++)
            below += key(y[i]) < trial;
        if (below <= rank)
            v = trial;
    }
    return unkey(v);
}

static void absolute_constant(const double *y, size_t n, size_t K UNUSED, double *F0)
{
    double lo = order_statistic(y, n, (n - 1) / 2);

    *F0 = n % 2 ? lo : lo + (order_statistic(y, n, n / 2) - lo) / 2;
}

/* poisson, log link: y log(y/μ) − (y − μ) with μ = exp F */

static double poisson_value(double y, const double *F, size_t K UNUSED)
{
    return y > 0 ? y * (log(y) - *F) - y + exp(*F) : exp(*F);
}

static void poisson_residual(double y, const double *F, size_t K UNUSED, double *r)
{
    *r = y - exp(*F);
}

static void poisson_along(double y, const double *F, const double *g, size_t K UNUSED, double *d1, double *d2)
{
    double mu = exp(*F);

    *d1 = (mu - y) * *g;
    *d2 = mu * *g * *g;
}

static void poisson_constant(const double *y, size_t n, size_t K UNUSED, double *F0)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += y[i];
    *F0 = log((sum > 0 ? sum : 0.5) / (double)n);
}

/* logistic: log(1 + exp(−F)) for y = 1, log(1 + exp F) for y = 0. Each side is computed without subtracting
 * from 1, since the searches follow the loss down to 1e−10 of its slope. */

static double sigma(double x)
{
    double e = exp(-fabs(x));

    return (x >= 0 ? 1 : e) / (1 + e);
}

static double logistic_value(double y, const double *F, size_t K UNUSED)
{
    double x = y > 0.5 ? -*F : *F;

    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static void logistic_residual(double y, const double *F, size_t K UNUSED, double *r)
{
    *r = y > 0.5 ? sigma(-*F) : -sigma(*F);
}

/* σ(F)σ(−F) = e/(1+e)² with e = exp(−|F|). */
static void logistic_along(double y, const double *F, const double *g, size_t K UNUSED, double *d1,
                           double *d2)
{
    double x = y > 0.5 ? -*F : *F, e = exp(-fabs(x)), p = (x >= 0 ? 1 : e) / (1 + e);

    *d1 = y > 0.5 ? -p * *g : p * *g;
    *d2 = e / ((1 + e) * (1 + e)) * *g * *g;
}

static void logistic_constant(const double *y, size_t n, size_t K UNUSED, double *F0)
{
    size_t ones = 0;

    for (size_t i = 0; i < n; i++)
        ones += y[i] > 0.5;
    *F0 = log(((double)ones + 0.5) / ((double)(n - ones) + 0.5));
}

/* softmax cross-entropy: log Σ exp F_k − F_y. With F_m the largest, log Σ = F_m + log1p(Σ over k ≠ m of
 * exp(F_k − F_m)), which neither overflows nor loses the small terms. */

static size_t largest(const double *F, size_t K)
{
    size_t m = 0;

    for (size_t k = 1; k < K; k++)
        if (F[k] > F[m])
            m = k;
    return m;
}

static double softmax_value(double y, const double *F, size_t K)
{
    size_t m = largest(F, K);
    double others = 0;

    for (size_t k = 0; k < K; k++)
        if (k != m)
            others += exp(F[k] - F[m]);
    return F[m] - F[(size_t)y] + log1p(others);
}

/* r_y = 1 − p_y is summed from the other classes. */
static void softmax_residual(double y, const double *F, size_t K, double *r)
{
    size_t c = (size_t)y;
    double Fm = F[largest(F, K)], sum = 0, others = 0;

    for (size_t k = 0; k < K; k++)
        sum += exp(F[k] - Fm);
    for (size_t k = 0; k < K; k++) {
        double p = exp(F[k] - Fm) / sum;
        r[k] = -p;
        others += k == c ? 0 : p;
    }
    r[c] = others;
}

/* With a_k = g_k − g_y and p the softmax of F: d1 = Σ p_k a_k, d2 = Σ p_k (a_k − d1)², the mean and variance
 * of a under p. */
static void softmax_along(double y, const double *F, const double *g, size_t K, double *d1, double *d2)
{
    double Fm = F[largest(F, K)], gy = g[(size_t)y], sum = 0, mean = 0, var = 0;

    for (size_t k = 0; k < K; k++) {
        double e = exp(F[k] - Fm);
        sum += e;
        mean += e * (g[k] - gy);
    }
    mean /= sum;
    for (size_t k = 0; k < K; k++) {
        double a = g[k] - gy - mean;
        var += exp(F[k] - Fm) * a * a;
    }
    *d1 = mean;
    *d2 = var / sum;
}

static void softmax_constant(const double *y, size_t n, size_t K, double *F0)
{
    for (size_t k = 0; k < K; k++)
        F0[k] = 0.5;
    for (size_t i = 0; i < n; i++)
        F0[(size_t)y[i]] += 1;
    for (size_t k = 0; k < K; k++)
        F0[k] = log(F0[k] / ((double)n + 0.5 * (double)K));
}

#define ROW(n, t, s)                                                                                         \
    {                                                                                                        \
        .name = #n, .task = t, .shape = s, .value = n##_value, .residual = n##_residual, .along = n##_along, \
        .constant = n##_constant                                                                             \
    }

/* The first row of a task is its default. */
static const struct loss table[] = {
    ROW(squared, TASK_REGRESSION, LOSS_QUADRATIC), ROW(absolute, TASK_REGRESSION, LOSS_PIECEWISE_LINEAR),
    ROW(poisson, TASK_COUNT, LOSS_SMOOTH),         ROW(logistic, TASK_BINARY, LOSS_SMOOTH),
    ROW(softmax, TASK_MULTICLASS, LOSS_SMOOTH),
};
#define ROWS (sizeof table / sizeof *table)

const struct loss *loss_find(const char *name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (!strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

const struct loss *loss_default(enum task_kind task)
{
    for (size_t i = 0; i < ROWS; i++)
        if (table[i].task == task)
            return &table[i];
    return NULL;
}

double loss_mean(const struct loss *L, const double *y, const struct mat *F)
{
    double sum = 0;

    for (size_t i = 0; i < F->n; i++)
        sum += L->value(y[i], F->a + i * F->k, F->k);
    return sum / (double)F->n;
}

void loss_residual(const struct loss *L, const double *y, const struct mat *F, struct mat *r)
{
    for (size_t i = 0; i < r->n; i++)
        L->residual(y[i], F->a + i * F->k, F->k, r->a + i * F->k);
}
