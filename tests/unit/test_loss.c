/* loss: every residual and every derivative against finite differences; every constant against its closed
 * form and as the minimiser it claims to be. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sponsor/loss.h"

static const char *const names[] = {"squared", "absolute", "poisson", "logistic", "softmax"};
#define LOSSES (sizeof names / sizeof *names)
#define KMAX   5

static double uniform(void)
{
    return drand48() * 2 - 1;
}

static size_t outputs(const struct loss *L)
{
    return L->task == TASK_MULTICLASS ? KMAX : 1;
}

static double label(const struct loss *L)
{
    switch (L->task) {
    case TASK_COUNT:
        return floor(drand48() * 6);
    case TASK_BINARY:
        return drand48() < 0.5;
    case TASK_MULTICLASS:
        return floor(drand48() * KMAX);
    default:
        return 10 * uniform();
    }
}

static void close_to(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol * fmax(1, fabs(want))))
        fail_msg("got %.17g, expected %.17g", got, want);
}

static void names_and_defaults(void **state)
{
    (void)state;
    for (size_t l = 0; l < LOSSES; l++)
        assert_string_equal(loss_find(names[l])->name, names[l]);
    assert_null(loss_find("squar"));
    assert_null(loss_find(""));
    assert_string_equal(loss_default(TASK_REGRESSION)->name, "squared");
    assert_string_equal(loss_default(TASK_COUNT)->name, "poisson");
    assert_string_equal(loss_default(TASK_BINARY)->name, "logistic");
    assert_string_equal(loss_default(TASK_MULTICLASS)->name, "softmax");
}

/* (L(F+h) − L(F−h)) / 2h has error h²/6·L‴ + eps·L/h: about 1e−9 with h = 1e−5 and values of order 10. */
static void residual_is_the_negative_gradient(void **state)
{
    const double h = 1e-5;

    (void)state;
    srand48(1);
    for (size_t l = 0; l < LOSSES; l++) {
        const struct loss *L = loss_find(names[l]);
        size_t K = outputs(L);
        double size = 0;
        for (int trial = 0; trial < 500; trial++) {
            double F[KMAX], r[KMAX], y = label(L);
            for (size_t k = 0; k < K; k++)
                F[k] = 3 * uniform();
            if (fabs(y - F[0]) < 1e-3)
                continue; /* the kink of the absolute loss */
            L->residual(y, F, K, r);
            for (size_t k = 0; k < K; k++) {
                double Fk = F[k], up, down;
                F[k] = Fk + h;
                up = L->value(y, F, K);
                F[k] = Fk - h;
                down = L->value(y, F, K);
                F[k] = Fk;
                close_to(r[k], -(up - down) / (2 * h), 1e-7);
                size += fabs(r[k]);
            }
        }
        assert_true(size > 10); /* or all would be zeros and prove nothing */
    }
}

static void along_is_the_derivative(void **state)
{
    const double h = 1e-4; /* second difference: error h²/12·L⁗ + 4·eps·L/h² ≈ 1e−7 */

    (void)state;
    srand48(2);
    for (size_t l = 0; l < LOSSES; l++) {
        const struct loss *L = loss_find(names[l]);
        size_t K = outputs(L);
        double size1 = 0, size2 = 0;
        for (int trial = 0; trial < 500; trial++) {
            double F[KMAX], g[KMAX], up[KMAX], down[KMAX], y = label(L), d1, d2, Lup, Ldown;
            for (size_t k = 0; k < K; k++) {
                F[k] = 2 * uniform();
                g[k] = 2 * uniform();
                up[k] = F[k] + h * g[k];
                down[k] = F[k] - h * g[k];
            }
            if (fabs(y - F[0]) < 1e-2)
                continue;
            L->along(y, F, g, K, &d1, &d2);
            Lup = L->value(y, up, K);
            Ldown = L->value(y, down, K);
            close_to(d1, (Lup - Ldown) / (2 * h), 1e-6);
            close_to(d2, (Lup - 2 * L->value(y, F, K) + Ldown) / (h * h), 1e-5);
            size1 += fabs(d1);
            size2 += fabs(d2);
        }
        assert_true(size1 > 10);
        assert_true(size2 > 10 || L->shape == LOSS_PIECEWISE_LINEAR);
    }
}

static void absolute_residual_at_its_kink(void **state)
{
    const struct loss *L = loss_find("absolute");
    static const double c[][3] = {
        /* y, y − F, r: 0 up to 1e−9·max(1,|y|) */
        {0, 0, 0},        {0.5, 0.9e-9, 0},   {0.5, 1.1e-9, 1},    {0.5, -1.1e-9, -1}, {1e6, 0.9e-3, 0},
        {1e6, 1.1e-3, 1}, {-1e6, -0.9e-3, 0}, {-1e6, -1.1e-3, -1}, {3, 2, 1},          {3, -2, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double F = c[i][0] - c[i][1], r, d1, d2, g = 2;
        L->residual(c[i][0], &F, 1, &r);
        assert_true(r == c[i][2]);
        L->along(c[i][0], &F, &g, 1, &d1, &d2);
        assert_true(d1 == -2 * c[i][2] && d2 == 0);
    }
}

/* Asymptotics: −log σ(F) → −F and e^−F; p_k → e^(F_k − F_y). */
static void far_from_zero_is_exact(void **state)
{
    const struct loss *l = loss_find("logistic"), *s = loss_find("softmax");
    double F, r[3], d1, d2, g = 1;

    (void)state;
    F = -800, close_to(l->value(1, &F, 1), 800, 1e-15);
    F = 800, assert_true(l->value(1, &F, 1) == 0);
    F = 100, close_to(l->value(1, &F, 1) / exp(-100), 1, 1e-14);
    l->residual(1, &F, 1, r);
    close_to(r[0] / exp(-100), 1, 1e-14);
    l->along(1, &F, &g, 1, &d1, &d2);
    close_to(d1 / -exp(-100), 1, 1e-14);
    close_to(d2 / exp(-100), 1, 1e-14);
    F = -100, l->residual(0, &F, 1, r);
    close_to(r[0] / -exp(-100), 1, 1e-14);

    const double far[3] = {900, 800, 700}, dir[3] = {1, 0, 0};
    close_to(s->value(0, far, 3) / exp(-100), 1, 1e-14);
    close_to(s->value(2, far, 3), 200, 1e-15);
    s->residual(0, far, 3, r);
    close_to(r[0] / exp(-100), 1, 1e-14);
    close_to(r[1] / -exp(-100), 1, 1e-14);
    s->along(0, far, dir, 3, &d1, &d2);
    close_to(d1 / -exp(-100), 1, 1e-13);
    close_to(d2 / exp(-100), 1, 1e-13);
}

/* ½·2², |−2|, 3 log 3 − 3 + 1, log 2, log 3 */
static void values_by_hand(void **state)
{
    const double zero[3] = {0};

    (void)state;
    close_to(loss_find("squared")->value(2, zero, 1), 2, 0);
    close_to(loss_find("absolute")->value(-2, zero, 1), 2, 0);
    close_to(loss_find("poisson")->value(3, zero, 1), 3 * log(3) - 2, 1e-15);
    close_to(loss_find("poisson")->value(0, zero, 1), 1, 0);
    close_to(loss_find("logistic")->value(1, zero, 1), log(2), 1e-15);
    close_to(loss_find("softmax")->value(2, zero, 3), log(3), 1e-15);
}

static void constants_by_closed_form(void **state)
{
    static const double v[6] = {4, -1, 7, 2, 2.5, -100}, count[4] = {0, 3, 1, 4}, none[4] = {0},
                        bin[5] = {1, 0, 1, 1, 1}, ones[3] = {1, 1, 1}, cls[5] = {0, 2, 2, 0, 2};
    double F0[4];

    (void)state;
    loss_find("squared")->constant(v, 5, 1, F0);
    close_to(F0[0], 2.9, 1e-15);
    loss_find("absolute")->constant(v, 5, 1, F0);
    assert_true(F0[0] == 2.5);
    loss_find("absolute")->constant(v, 6, 1, F0);
    assert_true(F0[0] == 2.25);
    loss_find("absolute")->constant(v, 1, 1, F0);
    assert_true(F0[0] == 4);
    loss_find("poisson")->constant(count, 4, 1, F0);
    close_to(F0[0], log(2), 1e-15);
    loss_find("poisson")->constant(none, 4, 1, F0);
    close_to(F0[0], log(0.125), 1e-15);
    loss_find("logistic")->constant(bin, 5, 1, F0); /* p = 4.5/6 */
    close_to(F0[0], log(3), 1e-15);
    loss_find("logistic")->constant(ones, 3, 1, F0); /* p = 3.5/4 */
    close_to(F0[0], log(7), 1e-15);
    loss_find("softmax")->constant(cls, 5, 4, F0); /* (n_k + ½)/7 */
    close_to(F0[0], log(2.5 / 7), 1e-15);
    close_to(F0[1], log(0.5 / 7), 1e-15);
    close_to(F0[2], log(3.5 / 7), 1e-15);
    close_to(F0[3], log(0.5 / 7), 1e-15);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void median_agrees_with_sorting(void **state)
{
    double v[300], s[300], F0;

    (void)state;
    srand48(3);
    for (int trial = 0; trial < 200; trial++) {
        size_t n = 1 + (size_t)(drand48() * 299);
        for (size_t i = 0; i < n; i++)
            s[i] = v[i] = trial % 2 ? floor(4 * uniform()) : uniform() * pow(10, 20 * uniform());
        qsort(s, n, sizeof *s, ascending);
        loss_find("absolute")->constant(v, n, 1, &F0);
        close_to(F0, n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2, 1e-15);
    }
}

/* Exact minimisers only: the class losses count half a row more per class. */
static void constants_minimise(void **state)
{
    static const char *const exact[] = {"squared", "absolute", "poisson"};
    double y[51];
    struct mat F;

    (void)state;
    srand48(4);
    assert_int_equal(mat_init(&F, 51, 1), 0);
    for (size_t l = 0; l < 3; l++) {
        const struct loss *L = loss_find(exact[l]);
        double F0, best;
        for (size_t i = 0; i < 51; i++)
            y[i] = label(L);
        L->constant(y, 51, 1, &F0);
        for (size_t i = 0; i < 51; i++)
            F.a[i] = F0;
        best = loss_mean(L, y, &F);
        for (double step = -1; step <= 1; step += 0.01) {
            for (size_t i = 0; i < 51; i++)
                F.a[i] = F0 + step;
            assert_true(loss_mean(L, y, &F) >= best * (1 - 1e-14));
        }
    }
    mat_free(&F);
}

static void rows_are_taken_one_by_one(void **state)
{
    const struct loss *L = loss_find("softmax");
    double y[3] = {0, 1, 1}, sum = 0;
    struct mat F, r;

    (void)state;
    srand48(5);
    assert_int_equal(mat_init(&F, 3, 2), 0);
    assert_int_equal(mat_init(&r, 2, 2), 0); /* fewer rows than F: held-out rows have no residual */
    for (size_t i = 0; i < 6; i++)
        F.a[i] = uniform();
    for (size_t i = 0; i < 3; i++)
        sum += L->value(y[i], F.a + 2 * i, 2);
    close_to(loss_mean(L, y, &F), sum / 3, 1e-15);
    loss_residual(L, y, &F, &r);
    for (size_t i = 0; i < 2; i++) {
        double want[2];
        L->residual(y[i], F.a + 2 * i, 2, want);
        assert_memory_equal(r.a + 2 * i, want, sizeof want);
    }
    mat_free(&F);
    mat_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_defaults),       cmocka_unit_test(residual_is_the_negative_gradient),
        cmocka_unit_test(along_is_the_derivative),  cmocka_unit_test(absolute_residual_at_its_kink),
        cmocka_unit_test(far_from_zero_is_exact),   cmocka_unit_test(values_by_hand),
        cmocka_unit_test(constants_by_closed_form), cmocka_unit_test(median_agrees_with_sorting),
        cmocka_unit_test(constants_minimise),       cmocka_unit_test(rows_are_taken_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
