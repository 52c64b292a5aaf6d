/* rate: every loss against a grid of 1e5 points and against its own derivative, on random, collinear and
 * separable data, with directions of any length; the closed forms by hand. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sponsor/rate.h"

#define N    60
#define KMAX 3
#define GRID 100000

static const char *const names[] = {"squared", "absolute", "poisson", "logistic", "softmax"};
#define LOSSES (sizeof names / sizeof *names)

/* RANDOM: g agrees with the residual more often than not. COLLINEAR: g is the residual itself. SEPARABLE: g
 * points to every label. SATURATED: as random, but F is far on the wrong side of many rows, where curvature
 * is next to nothing. UPHILL: g is minus the residual. */
enum kind { RANDOM, COLLINEAR, SEPARABLE, SATURATED, UPHILL, KINDS };

static double y[N];
static struct mat F, g;

static double normal(void)
{
    return sqrt(-2 * log(1 - drand48())) * cos(2 * M_PI * drand48());
}

static double label(enum task_kind task)
{
    switch (task) {
    case TASK_COUNT:
        return floor(drand48() * 6);
    case TASK_BINARY:
        return drand48() < 0.4;
    case TASK_MULTICLASS:
        return floor(drand48() * KMAX);
    default:
        return 5 + 3 * normal();
    }
}

static void problem(const struct loss *L, enum kind kind, double scale)
{
    double r[KMAX];
    size_t K = L->task == TASK_MULTICLASS ? KMAX : 1;

    F.k = g.k = K;
    F.n = g.n = N;
    for (size_t i = 0; i < N; i++) {
        double *Fi = F.a + i * K, *gi = g.a + i * K;
        y[i] = label(L->task);
        for (size_t k = 0; k < K; k++)
            Fi[k] = normal() * (kind == SATURATED ? 15 : 0.5);
        L->residual(y[i], Fi, K, r);
        for (size_t k = 0; k < K; k++) {
            gi[k] = kind == UPHILL ? -r[k] : r[k];
            if (kind == RANDOM || kind == SATURATED)
                gi[k] += 0.7 * normal();
            if (kind == SEPARABLE)
                gi[k] = copysign(0.5 + drand48(), r[k]) / (double)(K > 1 && r[k] < 0 ? K - 1 : 1);
            gi[k] *= scale;
        }
    }
}

static double mean_at(const struct loss *L, double eta)
{
    double row[KMAX], sum = 0;

    for (size_t i = 0; i < F.n; i++) {
        for (size_t k = 0; k < F.k; k++)
            row[k] = F.a[i * F.k + k] + eta * g.a[i * F.k + k];
        sum += L->value(y[i], row, F.k);
    }
    return sum / (double)F.n;
}

/* Mean derivative and the mean of its terms' sizes, which bounds its rounding. */
static double slope_at(const struct loss *L, double eta, double *size)
{
    double row[KMAX], sum = 0, d1, d2;

    *size = 0;
    for (size_t i = 0; i < F.n; i++) {
        for (size_t k = 0; k < F.k; k++)
            row[k] = F.a[i * F.k + k] + eta * g.a[i * F.k + k];
        L->along(y[i], row, g.a + i * F.k, F.k, &d1, &d2);
        sum += d1 / (double)F.n;
        *size += fabs(d1) / (double)F.n;
    }
    return sum;
}

/* One-sided slopes of the mean absolute loss: rows at their kink count for |g| either way. */
static void check_subgradient(double eta)
{
    double left = 0, right = 0, size = 0;

    for (size_t i = 0; i < F.n; i++) {
        double gi = g.a[i], d = y[i] - F.a[i] - eta * gi;
        bool kink = fabs(d) <= 1e-12 * (fabs(y[i]) + fabs(F.a[i]));
        left += kink ? -fabs(gi) : -copysign(gi, d * gi);
        right += kink ? fabs(gi) : -copysign(gi, d * gi);
        size += fabs(gi);
    }
    assert_true(right >= -1e-12 * size);
    assert_true(left <= 1e-12 * size || eta == 0);
}

static void check_grid(const struct loss *L, double eta, double to)
{
    double ours = mean_at(L, eta), best = INFINITY;

    for (int i = 0; i <= GRID; i++)
        best = fmin(best, mean_at(L, to * i / GRID));
    if (!(ours <= best + 1e-13 * fabs(best)))
        fail_msg("%s: %.17g at %.17g, grid %.17g", L->name, ours, eta, best);
}

static void no_grid_point_is_better(void **state)
{
    int falling = 0;

    (void)state;
    srand48(21);
    for (size_t l = 0; l < LOSSES; l++)
        for (enum kind kind = 0; kind < KINDS; kind++) {
            const struct loss *L = loss_find(names[l]);
            double eta, size;
            problem(L, kind, 1);
            eta = rate_search(L, y, &F, &g);
            assert_true(eta >= 0 && isfinite(eta));
            assert_true((kind == UPHILL) == (eta == 0));
            /* still falling at 2η: separable, so it falls for ever and the grid ends where the search has to
             */
            bool separable = eta > 0 && slope_at(L, 2 * eta, &size) < 0;
            assert_true(!separable || (L->shape == LOSS_SMOOTH && kind != RANDOM));
            falling += separable;
            check_grid(L, eta, separable ? eta : eta > 0 ? 3 * eta : 10);
        }
    assert_true(falling >= 2);
}

static void the_derivative_vanishes(void **state)
{
    static const double scales[] = {1e-12, 1e-6, 1, 1e6, 1e12};
    size_t positive = 0;

    (void)state;
    srand48(22);
    for (size_t l = 0; l < LOSSES; l++)
        for (int trial = 0; trial < 400; trial++) {
            const struct loss *L = loss_find(names[l]);
            double scale = scales[trial % 5], eta, at0, at, size0, size;
            problem(L, (enum kind)(trial / 5 % KINDS), scale);
            eta = rate_search(L, y, &F, &g);
            assert_true(eta >= 0 && isfinite(eta));
            at0 = slope_at(L, 0, &size0);
            at = slope_at(L, eta, &size);
            positive += eta > 0;
            if (L->shape == LOSS_PIECEWISE_LINEAR)
                check_subgradient(eta);
            else if (at0 >= 0)
                assert_true(eta == 0);
            else if (fabs(at) > 1e-8 * fabs(at0) + 1e-15 * size)
                fail_msg("%s, kind %d, scale %g: slope %g at %.17g, %g at 0", L->name, trial / 5 % KINDS,
                         scale, at, eta, at0);
        }
    assert_true(positive > 200 * LOSSES);
}

/* η·g is the same whatever the length of g. */
static void length_does_not_matter(void **state)
{
    (void)state;
    for (size_t l = 0; l < LOSSES; l++)
        for (enum kind kind = 0; kind < KINDS; kind++) {
            const struct loss *L = loss_find(names[l]);
            double one, far;
            srand48(23);
            problem(L, kind, 1);
            one = rate_search(L, y, &F, &g);
            for (int e = -12; e <= 12; e += 6) {
                srand48(23);
                problem(L, kind, pow(10, e));
                far = rate_search(L, y, &F, &g) * pow(10, e);
                if (!(fabs(far - one) <= 1e-9 * one))
                    fail_msg("%s, kind %d, scale 1e%d: %.17g, else %.17g", L->name, (int)kind, e, far, one);
            }
        }
}

/* One row, y = 1, F = 0, g = 1: D(η) = −σ(−η), D(0) = −½; it falls to 1e−10 of that at e^−η ≈ ½·1e−10: η =
 * log(2e10 − 1). Softmax of two classes with g = (½, −½) is the same function. */
static void separable_stops_where_it_should(void **state)
{
    (void)state;
    y[0] = 1;
    F = (struct mat){1, 1, F.a};
    g = (struct mat){1, 1, g.a};
    F.a[0] = F.a[1] = 0;
    g.a[0] = 1;
    assert_true(fabs(rate_search(loss_find("logistic"), y, &F, &g) - log(2e10 - 1)) < 1e-6);
    F.k = g.k = 2;
    g.a[0] = -0.5;
    g.a[1] = 0.5;
    assert_true(fabs(rate_search(loss_find("softmax"), y, &F, &g) - log(2e10 - 1)) < 1e-6);
    y[0] = 0; /* Poisson, g = −1: D(η) = −e^−η: 10·log 10 */
    F.k = g.k = 1;
    g.a[0] = -1;
    assert_true(fabs(rate_search(loss_find("poisson"), y, &F, &g) - 10 * log(10)) < 1e-6);
}

static void one_row(double yi, double Fi, double gi)
{
    F = (struct mat){1, 1, F.a};
    g = (struct mat){1, 1, g.a};
    y[0] = yi;
    F.a[0] = Fi;
    g.a[0] = gi;
}

static void closed_forms(void **state)
{
    (void)state;
    one_row(7, 1, 4); /* (7 − 1)/4 */
    assert_true(rate_search(loss_find("squared"), y, &F, &g) == 1.5);
    assert_true(rate_search(loss_find("absolute"), y, &F, &g) == 1.5);
    one_row(7, 1, -4);
    assert_true(rate_search(loss_find("squared"), y, &F, &g) == 0);
    assert_true(rate_search(loss_find("absolute"), y, &F, &g) == 0);
    one_row(6, 0, 0.5); /* e^(η/2) = 6 */
    assert_true(fabs(rate_search(loss_find("poisson"), y, &F, &g) - 2 * log(6)) < 1e-13);
    one_row(6, -600, 1); /* curvature e^−600 at the start */
    assert_true(fabs(rate_search(loss_find("poisson"), y, &F, &g) - 600 - log(6)) < 1e-11);
    for (size_t l = 0; l < LOSSES; l++) { /* g = 0 leads nowhere */
        one_row(1, 0, 0);
        assert_true(rate_search(loss_find(names[l]), y, &F, &g) == 0);
    }
    /* Not separable, though D falls below 1e−10 of D(0) on the way: σ(−η) = σ(η − 60) at η = 30. */
    F = (struct mat){2, 1, F.a};
    g = (struct mat){2, 1, g.a};
    y[0] = 1;
    y[1] = 0;
    F.a[0] = 0;
    F.a[1] = -60;
    g.a[0] = g.a[1] = 1;
    assert_true(fabs(rate_search(loss_find("logistic"), y, &F, &g) - 30) < 1e-8);
    /* 3 of 4 rows with σ(η) = ¾ */
    F = (struct mat){4, 1, F.a};
    g = (struct mat){4, 1, g.a};
    for (size_t i = 0; i < 4; i++) {
        y[i] = i > 0;
        F.a[i] = 0;
        g.a[i] = 1;
    }
    assert_true(fabs(rate_search(loss_find("logistic"), y, &F, &g) - log(3)) < 1e-14);
}

/* y, F = 0 and g; the set of minimisers by hand, of which the one nearest 0 is wanted. */
static void nearest_of_the_absolute_minimisers(void **state)
{
    static const struct {
        double y[4], g[4];
        size_t n;
        double want;
    } c[] = {
        {{1, 2, 3, 4}, {1, 1, 1, 1}, 4, 2},       /* [2, 3] */
        {{-1, -2, 3, 4}, {1, 1, 1, 1}, 4, 0},     /* [−1, 3] */
        {{-1, -2, -3, 4}, {1, 1, 1, 1}, 4, 0},    /* [−2, −1] */
        {{1, 2, 3}, {1, 1, 1}, 3, 2},             /* {2} */
        {{1, 20, 3, 9}, {1, 10, 1, 0}, 4, 2},     /* weights 1, 10, 1 at 1, 2, 3; g = 0 drops out */
        {{5, 1, 1, 1}, {5, 0.1, 0.1, 0.1}, 4, 1}, /* weight 5 at 1, the rest at 10 */
        {{0.3, 0.2, 0.1, 0.7},
         {0.1, 0.1, 0.1, 0.1},
         4,
         2},                                /* 3, 2, 1, 7: [2, 3], weights that binary rounds */
        {{0, 0, 1, 1}, {1, 1, 1, 1}, 4, 0}, /* [0, 1] */
    };
    (void)state;
    for (size_t t = 0; t < sizeof c / sizeof *c; t++) {
        F = (struct mat){c[t].n, 1, F.a};
        g = (struct mat){c[t].n, 1, g.a};
        memset(F.a, 0, 4 * sizeof *F.a);
        memcpy(y, c[t].y, sizeof c[t].y);
        memcpy(g.a, c[t].g, sizeof c[t].g);
        if (fabs(rate_search(loss_find("absolute"), y, &F, &g) - c[t].want) > 1e-15)
            fail_msg("case %zu: %.17g", t, rate_search(loss_find("absolute"), y, &F, &g));
    }
}

static int setup(void **state)
{
    (void)state;
    return mat_init(&F, N, KMAX) || mat_init(&g, N, KMAX);
}

static int teardown(void **state)
{
    (void)state;
    mat_free(&F);
    mat_free(&g);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_forms),
        cmocka_unit_test(nearest_of_the_absolute_minimisers),
        cmocka_unit_test(separable_stops_where_it_should),
        cmocka_unit_test(the_derivative_vanishes),
        cmocka_unit_test(length_does_not_matter),
        cmocka_unit_test(no_grid_point_is_better),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
