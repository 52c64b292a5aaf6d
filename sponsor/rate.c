/* rate: L(F + ηg) is convex in η for every loss of the table, so its minimum over η ≥ 0 is where the
 * derivative D(η) = Σ ∂L(y, F + ηg)/∂η turns positive. Three searches, one for each shape of D: a line, a
 * staircase, a smooth curve. */
#include "sponsor/rate.h"

#include <math.h>
#include <stdlib.h>

/* D(η) = η Σg² − Σrg. */
static double quadratic(const struct loss *L, const double *y, const struct mat *F, const struct mat *g)
{
    double D = 0, DD = 0, d1, d2;

    for (size_t i = 0; i < g->n; i++) {
        L->along(y[i], F->a + i * F->k, g->a + i * g->k, g->k, &d1, &d2);
        D += d1;
        DD += d2;
    }
    return D < 0 && DD > 0 ? -D / DD : 0;
}

struct breakpoint {
    double at, weight;
};

static int earlier(const void *a, const void *b)
{
    double x = ((const struct breakpoint *)a)->at, y = ((const struct breakpoint *)b)->at;

    return (x > y) - (x < y);
}

/* Σ|y − F − ηg| = Σ|g||η − (y−F)/g|: a weighted median of the breakpoints (y−F)/g. D starts at −Σ|g| and
 * climbs by 2|g| at each of them; the first with Σ|g| up to and including it ≥ ½Σ|g| is the smallest
 * minimiser. Breakpoints at or below 0 lie behind the start: only their weight counts, and η = 0 when they
 * hold half of it. An even tie must be seen as one to find the nearest of its minimisers: hence long double,
 * and a slack below the rounding of L itself. */
static double weighted_median(const double *y, const struct mat *F, const struct mat *g)
{
    struct breakpoint *p = malloc((g->n + 1) * sizeof *p);
    long double climb = 0, total = 0;
    size_t n = 0, i = 0;
    double eta = 0;

    if (!p)
        return -1;
    for (size_t j = 0; j < g->n; j++) {
        double at = (y[j] - F->a[j]) / g->a[j], weight = fabs(g->a[j]);
        if (!(weight > 0) || isinf(at))
            continue; /* too flat to matter */
        if (at > 0)
            p[n++] = (struct breakpoint){at, weight};
        else
            climb += weight;
        total += weight;
    }
    qsort(p, n, sizeof *p, earlier);
    while (2 * climb < total * (1 - 1e-14L) && i < n) {
        eta = p[i].at;
        climb += p[i++].weight;
    }
    free(p);
    return eta;
}

/* A problem with a smooth derivative; row has room for K values. */
struct curve {
    const struct loss *L;
    const double *y;
    const struct mat *F, *g;
    double *row;
};

/* D and D′ at η. */
static double slope(const struct curve *c, double eta, double *curvature)
{
    size_t K = c->g->k;
    double D = 0, d1, d2;

    *curvature = 0;
    for (size_t i = 0; i < c->g->n; i++) {
        const double *Fi = c->F->a + i * K, *gi = c->g->a + i * K;
        for (size_t k = 0; k < K; k++)
            c->row[k] = Fi[k] + eta * gi[k];
        c->L->along(c->y[i], c->row, gi, K, &d1, &d2);
        D += d1;
        *curvature += d2;
    }
    return D;
}

/* The next η to try: Newton's for the root of h, kept inside (lo, hi). While there is no hi, at least twice
 * as far and at most 16 times. Newton must halve its step each time, else the interval is halved (Press et
 * al., Numerical Recipes, rtsafe): so the interval or the step halves at least every second time. */
static double next(double eta, double h, double curvature, double lo, double hi, double *last)
{
    double newton = eta - h / curvature, to;

    if (isinf(hi))
        to = newton > 2 * eta ? fmin(newton, 16 * eta) : 2 * eta; /* also when Newton is no number */
    else if (newton > lo && newton < hi && fabs(newton - eta) <= *last / 2)
        to = newton;
    else
        to = lo + (hi - lo) / 2;
    *last = isinf(hi) ? INFINITY : fabs(to - eta);
    return to;
}

/* Where D(η) = −target within tol, in (lo, hi), from the guess eta; *more is then the Newton step that is
 * left to D = 0. */
static double solve(const struct curve *c, double target, double tol, double lo, double hi, double eta,
                    double *more)
{
    double last = INFINITY, curvature;

    *more = 0;
    for (int pass = 0; pass < 200 && eta > lo && eta < hi; pass++) {
        double h = slope(c, eta, &curvature) + target;
        if (fabs(h) <= tol) {
            *more = (target - h) / curvature;
            return eta;
        }
        if (h < 0)
            lo = eta;
        else
            hi = eta;
        eta = next(eta, h, curvature, lo, hi, &last);
    }
    return isfinite(eta) ? eta
                         : lo; /* no number between lo and hi, or Newton stands still: rounding decides */
}

/* First the root of D(η) = −stop, stop = 1e−10·|D(0)|. It exists whenever D(0) < 0, since D tends to 0 at
 * least. On separable data it is where the search has to stop. Elsewhere it lies close before the minimum:
 * one Newton step more, if that is short, or a second search, if D has turned positive at 2η. |D(0)| counts
 * up to Σ|g|, which only Poisson's can pass, by far. */
static double smooth(const struct curve *c)
{
    double largest = 0, sum = 0, curvature, more, D0 = slope(c, 0, &curvature), stop, eta;

    if (!(D0 < 0) || isinf(D0))
        return 0;
    for (size_t i = 0; i < c->g->n * c->g->k; i++) {
        largest = fmax(largest, fabs(c->g->a[i]));
        sum += fabs(c->g->a[i]);
    }
    stop = 1e-10 * fmin(-D0, sum);
    /* F lives on the scale of log odds and log means: a first step beyond 8 comes from a saturated curvature.
     */
    eta = solve(c, stop, 0.1 * stop, 0, INFINITY, fmin(-D0 / curvature, 8 / largest), &more);
    if (fabs(more) <= 1e-6 * eta)
        return eta + more;
    if (slope(c, 2 * eta, &curvature) > 0)
        return solve(c, 0, 0, eta, 2 * eta, eta + fmin(more, eta / 2), &more);
    return solve(c, stop, 1e-8 * stop, 0, 2 * eta, eta, &more); /* D is small term by term here, and exact */
}

double rate_search(const struct loss *L, const double *y, const struct mat *F, const struct mat *g)
{
    struct curve c = {.L = L, .y = y, .F = F, .g = g};
    double eta;

    if (L->shape == LOSS_QUADRATIC)
        return quadratic(L, y, F, g);
    if (L->shape == LOSS_PIECEWISE_LINEAR)
        return weighted_median(y, F, g);
    c.row = malloc(g->k * sizeof *c.row);
    if (!c.row)
        return -1;
    eta = smooth(&c);
    free(c.row);
    return eta;
}
