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
 * hold half of it. Sums are long double, so that an even tie between equal weights is seen as one. */
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
        if (!(weight > 0))
            continue;
        if (at > 0)
            p[n++] = (struct breakpoint){at, weight};
        else
            climb += weight;
        total += weight;
    }
    qsort(p, n, sizeof *p, earlier);
    while (2 * climb < total && i < n) {
        eta = p[i].at;
        climb += p[i++].weight;
    }
    free(p);
    return eta;
}

/* D and D′ at η; row has room for K values. */
static double slope(const struct loss *L, const double *y, const struct mat *F, const struct mat *g,
                    double eta, double *row, double *curvature)
{
    double D = 0, DD = 0, d1, d2;

    for (size_t i = 0; i < g->n; i++) {
        const double *Fi = F->a + i * F->k, *gi = g->a + i * g->k;
        for (size_t k = 0; k < g->k; k++)
            row[k] = Fi[k] + eta * gi[k];
        L->along(y[i], row, gi, g->k, &d1, &d2);
        D += d1;
        DD += d2;
    }
    *curvature = DD;
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

/* The root of h(η) = D(η) + 1e−10·|D(0)|. It exists whenever D(0) < 0, since D tends to 0 at least: on
 * separable data it is the point where the search shall stop, elsewhere it lies a relative 1e−10 before the
 * minimum, and one last Newton step, which is then short, crosses over. A step that is not short would be the
 * flight to infinity of separable data. */
static double smooth(const struct loss *L, const double *y, const struct mat *F, const struct mat *g,
                     double *row)
{
    double lo = 0, hi = INFINITY, last = INFINITY, largest = 0, curvature,
           D0 = slope(L, y, F, g, 0, row, &curvature);
    double stop = -1e-10 * D0, eta, h;

    if (!(D0 < 0) || isinf(D0))
        return 0;
    for (size_t i = 0; i < g->n * g->k; i++)
        largest = fmax(largest, fabs(g->a[i]));
    /* F lives on the scale of log odds and log means: a first step beyond 8 comes from a saturated curvature.
     */
    eta = fmin(-D0 / curvature, 8 / largest);
    for (int pass = 0; pass < 200; pass++) {
        h = slope(L, y, F, g, eta, row, &curvature) + stop;
        if (fabs(h) <= 0.1 * stop)
            break;
        if (h < 0)
            lo = eta;
        else
            hi = eta;
        eta = next(eta, h, curvature, lo, hi, &last);
        if (!(eta > lo && eta < hi))
            return lo;
    }
    last = (stop - h) / curvature;
    return fabs(last) <= 1e-6 * eta ? eta + last : eta;
}

double rate_search(const struct loss *L, const double *y, const struct mat *F, const struct mat *g)
{
    double *row, eta;

    if (L->shape == LOSS_QUADRATIC)
        return quadratic(L, y, F, g);
    if (L->shape == LOSS_PIECEWISE_LINEAR)
        return weighted_median(y, F, g);
    row = malloc(g->k * sizeof *row);
    if (!row)
        return -1;
    eta = smooth(L, y, F, g, row);
    free(row);
    return eta;
}
