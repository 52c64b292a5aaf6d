/* weights: the exact solution against projected gradient descent, its own optimality conditions and closed
 * forms. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sponsor/weights.h"

#define MMAX 96

static double G[MMAX * MMAX], b[MMAX], w[MMAX];

static double normal(void)
{
    return sqrt(-2 * log(1 - drand48())) * cos(2 * M_PI * drand48());
}

static double objective(size_t M, const double *x)
{
    double q = 0;

    for (size_t i = 0; i < M; i++) {
        double Gx = 0;
        for (size_t j = 0; j < M; j++)
            Gx += G[i * M + j] * x[j];
        q += x[i] * (0.5 * Gx - b[i]);
    }
    return q;
}

/* G = AᵀA and b = Aᵀr by the definition; A is n×M. */
static void gram(const double *A, const double *r, size_t n, size_t M)
{
    memset(G, 0, sizeof G);
    memset(b, 0, sizeof b);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < M; j++) {
            for (size_t k = 0; k < M; k++)
                G[j * M + k] += A[i * M + j] * A[i * M + k];
            b[j] += A[i * M + j] * r[i];
        }
}

/* Columns share the signal r and differ in noise and scale, as organizations do; every fourth problem has
 * fewer rows than columns, every fifth a copied, every sixth a zero, every seventh a reversed, every eleventh
 * a huge column. */
static void random_problem(size_t trial, size_t M)
{
    static double A[3 * MMAX * MMAX], r[3 * MMAX];
    size_t n = trial % 4 ? 3 * M : (M + 1) / 2;

    for (size_t i = 0; i < n; i++) {
        double *row = A + i * M;
        r[i] = normal();
        for (size_t j = 0; j < M; j++)
            row[j] = (trial % 3 ? r[i] : 0) + normal() * (trial % 2 ? 1 : 0.1) * (double)(1 + j % 3);
        if (trial % 5 == 0)
            row[M - 1] = row[0];
        if (trial % 6 == 0)
            row[M / 2] = 0;
        if (trial % 7 == 0)
            row[M / 3] = -row[M / 3];
        if (trial % 11 == 0)
            row[M - 1] *= 1e6;
    }
    gram(A, r, n, M);
}

static int descending(const void *x, const void *y)
{
    double u = *(const double *)x, v = *(const double *)y;

    return (u < v) - (u > v);
}

/* The nearest point of the simplex (Held, Wolfe, Crowder 1974). */
static void project(double *x, size_t M)
{
    double s[MMAX], sum = 0, theta = 0;

    memcpy(s, x, M * sizeof *s);
    qsort(s, M, sizeof *s, descending);
    for (size_t i = 0; i < M; i++) {
        sum += s[i];
        if (s[i] > (sum - 1) / (double)(i + 1))
            theta = (sum - 1) / (double)(i + 1);
    }
    for (size_t i = 0; i < M; i++)
        x[i] = fmax(x[i] - theta, 0);
}

static double projected_gradient(size_t M, int steps)
{
    double x[MMAX], next[MMAX], trace = 0;

    for (size_t i = 0; i < M; i++) {
        x[i] = 1 / (double)M;
        trace += G[i * M + i];
    }
    for (int s = 0; s < steps; s++) {
        for (size_t i = 0; i < M; i++) {
            double g = -b[i];
            for (size_t j = 0; j < M; j++)
                g += G[i * M + j] * x[j];
            next[i] = x[i] - g / trace;
        }
        project(next, M);
        memcpy(x, next, M * sizeof *x);
    }
    return objective(M, x);
}

static double magnitude(size_t M)
{
    double m = 0;

    for (size_t i = 0; i < M * M; i++)
        m = fmax(m, fabs(G[i]));
    for (size_t i = 0; i < M; i++)
        m = fmax(m, fabs(b[i]));
    return m;
}

static void feasible(size_t M)
{
    double sum = 0;

    for (size_t i = 0; i < M; i++) {
        assert_true(w[i] >= 0);
        sum += w[i];
    }
    assert_true(fabs(sum - 1) <= 1e-14);
}

static void never_worse_than_projected_gradient(void **state)
{
    double worst = 0;
    size_t strictly = 0, trials = getenv("GAL_SHORT") ? 60 : 1000; /* valgrind looks for other faults */

    (void)state;
    srand48(11);
    for (size_t trial = 0; trial < trials; trial++) {
        size_t M = trial % 200 == 199 ? 64 : trial % 50 == 49 ? 24 : 1 + trial % 10;
        double theirs, ours;
        random_problem(trial, M);
        assert_int_equal(weights_exact(G, b, M, w), 0);
        feasible(M);
        worst = fmax(worst, weights_kkt(G, b, M, w));
        ours = objective(M, w);
        theirs = projected_gradient(M, 10000);
        if (ours > theirs + 1e-13 * magnitude(M))
            fail_msg("problem %zu, M %zu: %.17g, projected gradient %.17g", trial, M, ours, theirs);
        strictly += ours < theirs - 1e-13 * magnitude(M);
    }
    print_message("largest KKT residual %.2g; strictly better on %zu of %zu\n", worst, strictly, trials);
    assert_true(worst <= 1e-12);
}

static void conditions_hold_for_many_organizations(void **state)
{
    double worst = 0;

    (void)state;
    srand48(12);
    for (size_t trial = 0; trial < 400; trial++) {
        size_t M = 32 + trial % 65;
        random_problem(trial, M);
        assert_int_equal(weights_exact(G, b, M, w), 0);
        feasible(M);
        worst = fmax(worst, weights_kkt(G, b, M, w));
    }
    print_message("largest KKT residual %.2g\n", worst);
    assert_true(worst <= 1e-12);
}

/* Orthonormal columns: w is the projection of b on the simplex; (0.5, 0.3, −1) → (0.6, 0.4, 0). */
static void closed_forms(void **state)
{
    (void)state;
    memcpy(G, (double[]){1, 0, 0, 0, 1, 0, 0, 0, 1}, 9 * sizeof *G);
    memcpy(b, (double[]){0.5, 0.3, -1}, 3 * sizeof *b);
    assert_int_equal(weights_exact(G, b, 3, w), 0);
    assert_true(fabs(w[0] - 0.6) < 1e-14 && fabs(w[1] - 0.4) < 1e-14 && w[2] == 0);

    /* diagonal G, b = 0: w_i ∝ 1/G_ii */
    memcpy(G, (double[]){1, 0, 0, 0, 2, 0, 0, 0, 4}, 9 * sizeof *G);
    memset(b, 0, sizeof b);
    assert_int_equal(weights_exact(G, b, 3, w), 0);
    assert_true(fabs(w[0] - 4. / 7) < 1e-14 && fabs(w[1] - 2. / 7) < 1e-14 && fabs(w[2] - 1. / 7) < 1e-14);

    /* G = 0: linear, all weight on the largest b; of two equal ones half each */
    memset(G, 0, sizeof G);
    memcpy(b, (double[]){1, 3, 3}, 3 * sizeof *b);
    assert_int_equal(weights_exact(G, b, 3, w), 0);
    assert_true(w[0] == 0 && fabs(w[1] - 0.5) < 1e-15 && fabs(w[2] - 0.5) < 1e-15);
}

static void one_organization_has_all_weight(void **state)
{
    (void)state;
    for (int c = -1; c <= 1; c++) {
        G[0] = c * c * 5;
        b[0] = c;
        w[0] = NAN;
        assert_int_equal(weights_exact(G, b, 1, w), 0);
        assert_true(w[0] == 1);
    }
}

static void all_columns_zero(void **state)
{
    (void)state;
    memset(G, 0, sizeof G);
    memset(b, 0, sizeof b);
    assert_int_equal(weights_exact(G, b, 7, w), 0);
    for (size_t i = 0; i < 7; i++)
        assert_true(fabs(w[i] - 1. / 7) < 1e-15);
}

/* c copies of one column share what the column alone would have: least norm makes them equal. */
static void copies_share_equally(void **state)
{
    double A[40 * 9], r[40], alone[5];

    (void)state;
    srand48(13);
    for (size_t trial = 0; trial < 200; trial++) {
        double scale = trial % 2 ? 1 : 1e-7;
        for (size_t i = 0; i < 40; i++) {
            r[i] = normal();
            for (size_t j = 0; j < 5; j++)
                A[i * 5 + j] = scale * (r[i] + 0.8 * normal() * (double)(1 + j));
        }
        gram(A, r, 40, 5);
        assert_int_equal(weights_exact(G, b, 5, alone), 0);
        for (size_t i = 40; i-- > 0;) { /* columns 5, 6, 7: copies of 0; 8: of 1 */
            double row[5];
            memcpy(row, A + i * 5, sizeof row);
            memcpy(A + i * 9, row, sizeof row);
            A[i * 9 + 5] = A[i * 9 + 6] = A[i * 9 + 7] = row[0];
            A[i * 9 + 8] = row[1];
        }
        gram(A, r, 40, 9);
        assert_int_equal(weights_exact(G, b, 9, w), 0);
        feasible(9);
        for (size_t c = 5; c < 8; c++)
            assert_true(fabs(w[c] - w[0]) < 1e-10);
        assert_true(fabs(4 * w[0] - alone[0]) < 1e-9);
        assert_true(fabs(w[8] - w[1]) < 1e-10 && fabs(2 * w[1] - alone[1]) < 1e-9);
        for (size_t c = 2; c < 5; c++)
            assert_true(fabs(w[c] - alone[c]) < 1e-9);
    }
}

/* Where G is singular in other ways: no point of the simplex that is as good has a smaller norm. The others
 * are found by moving w in the null space of A and 1ᵀ: least norm means that the part of w in that space is
 * held back by bounds alone; with w > 0 everywhere it is 0. r = A·(1/M + small) makes w positive. */
static void least_norm_among_equals(void **state)
{
    enum { n = 6, M = 12 };
    double A[n * M], r[n], null[M];

    (void)state;
    srand48(14);
    for (int trial = 0; trial < 200; trial++) {
        double inside[M], rows[(n + 1) * M], part = 0, size = 0;
        for (size_t i = 0; i < n * M; i++)
            A[i] = normal();
        for (size_t j = 0; j < M; j++)
            inside[j] = (1 + 0.1 * normal()) / M;
        double sum = 0;
        for (size_t j = 0; j < M; j++)
            sum += inside[j];
        for (size_t i = 0; i < n; i++) {
            r[i] = 0;
            for (size_t j = 0; j < M; j++)
                r[i] += A[i * M + j] * inside[j] / sum;
        }
        gram(A, r, n, M);
        assert_int_equal(weights_exact(G, b, M, w), 0);
        assert_true(weights_kkt(G, b, M, w) <= 1e-12);
        for (size_t j = 0; j < M; j++)
            assert_true(w[j] > 0);
        /* a random vector, made orthogonal (Gram–Schmidt, twice) to the rows of A and to 1 */
        for (size_t j = 0; j < M; j++)
            rows[n * M + j] = 1;
        memcpy(rows, A, sizeof A);
        for (size_t j = 0; j < M; j++)
            null[j] = normal();
        for (size_t i = 0; i <= n; i++)
            for (size_t l = 0; l < 2 * i + 1; l++) {
                double dot = 0, len = 0, *u = rows + (l < 2 * i ? l % i : i) * M, *v = rows + i * M;
                for (size_t j = 0; j < M; j++) {
                    dot += u[j] * v[j];
                    len += u[j] * u[j];
                }
                for (size_t j = 0; j < M; j++)
                    v[j] = l < 2 * i ? v[j] - dot / len * u[j] : v[j] / sqrt(len);
            }
        for (size_t l = 0; l < 2 * (n + 1); l++) {
            double dot = 0, *u = rows + l % (n + 1) * M;
            for (size_t j = 0; j < M; j++)
                dot += u[j] * null[j];
            for (size_t j = 0; j < M; j++)
                null[j] -= dot * u[j];
        }
        for (size_t j = 0; j < M; j++) {
            part += null[j] * w[j];
            size += null[j] * null[j];
        }
        assert_true(size > 1e-3);
        assert_true(fabs(part) / sqrt(size) < 1e-11);
    }
}

/* r = 1, N = 1: the minimisers are {Σ w_i f_i = 1, Σw = 1, w ≥ 0}. Lagrange with all free: w_i = α + β f_i. f
 * = (1, 2, 4, 0): 4α + 7β = 1, 7α + 21β = 1: β = −3/35, α = 14/35, all positive. f = (1, 3, 9, 0) would make
 * w3 negative, so w3 = 0 and 3α + 4β = 1, 4α + 10β = 1: β = −1/14, α = 6/14. */
static void least_norm_by_hand(void **state)
{
    static const double columns[2][4] = {{1, 2, 4, 0}, {1, 3, 9, 0}};
    static const double want[2][4] = {{11. / 35, 8. / 35, 2. / 35, 14. / 35}, {5. / 14, 3. / 14, 0, 6. / 14}};
    const double r = 1;

    (void)state;
    for (int c = 0; c < 2; c++) {
        gram(columns[c], &r, 1, 4);
        assert_int_equal(weights_exact(G, b, 4, w), 0);
        for (size_t j = 0; j < 4; j++)
            assert_true(fabs(w[j] - want[c][j]) < 1e-12);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t c = 0; c < 3; c++) {
        memset(G, 0, sizeof G);
        memset(b, 0, sizeof b);
        G[3] = bad[c];
        errno = 0;
        assert_int_equal(weights_exact(G, b, 2, w), -1);
        assert_int_equal(errno, EDOM);
        G[3] = 0;
        b[1] = bad[c];
        errno = 0;
        assert_int_equal(weights_exact(G, b, 2, w), -1);
        assert_int_equal(errno, EDOM);
    }
}

/* A column 1e150 times the others must not take the digits from their weights. Its own weight v·1e−150 counts
 * nothing in Σw, so v ≥ 0 is free: where v > 0 the others solve the problem with v eliminated (Schur
 * complement), else the one without it. */
static void a_huge_column_does_not_blur_the_rest(void **state)
{
    int used = 0;

    (void)state;
    srand48(15);
    for (int trial = 0; trial < 100; trial++) {
        double A[30 * 4], r[30], others[3], huge[16], hugeb[4];
        for (size_t i = 0; i < 30; i++) {
            r[i] = normal();
            for (size_t j = 0; j < 3; j++)
                A[i * 4 + j] = r[i] + normal() * (double)(1 + j);
            A[i * 4 + 3] = 1e150 * normal();
        }
        gram(A, r, 30, 4);
        memcpy(huge, G, sizeof huge);
        memcpy(hugeb, b, sizeof hugeb);
        assert_int_equal(weights_exact(huge, hugeb, 4, w), 0);
        memcpy(others, w, sizeof others);
        assert_true(w[3] < 1e-140);
        for (size_t i = 0; i < 3; i++) {
            double part = w[3] > 0 ? huge[i * 4 + 3] / huge[15] : 0;
            for (size_t j = 0; j < 3; j++)
                G[i * 3 + j] = huge[i * 4 + j] - part * huge[j * 4 + 3];
            b[i] = hugeb[i] - part * hugeb[3];
        }
        used += w[3] > 0;
        assert_int_equal(weights_exact(G, b, 3, w), 0);
        for (size_t j = 0; j < 3; j++)
            assert_true(fabs(w[j] - others[j]) < 1e-11);
    }
    assert_true(used > 10 && used < 90);
}

static void gram_agrees_with_its_definition(void **state)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {5, 2, 3}, {4000, 3, 8}, {1000, 10, 64}, {40, 1, 96}};

    (void)state;
    srand48(16);
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        size_t n = sizes[c][0], K = sizes[c][1], M = sizes[c][2], NK = n * K;
        struct mat f[MMAX], r;
        const struct mat *ptr[MMAX];
        double *A = malloc(NK * M * sizeof *A), got[MMAX * MMAX], gotb[MMAX], again[MMAX * MMAX],
               againb[MMAX];
        assert_int_equal(mat_init(&r, n, K), 0);
        for (size_t m = 0; m < M; m++) {
            assert_int_equal(mat_init(f + m, n, K), 0);
            ptr[m] = f + m;
            for (size_t i = 0; i < NK; i++)
                A[i * M + m] = f[m].a[i] = normal();
        }
        for (size_t i = 0; i < NK; i++)
            r.a[i] = normal();
        gram(A, r.a, NK, M);
        assert_int_equal(weights_gram(ptr, M, &r, got, gotb), 0);
        assert_int_equal(weights_gram(ptr, M, &r, again, againb), 0);
        assert_memory_equal(got, again, M * M * sizeof *got);
        assert_memory_equal(gotb, againb, M * sizeof *gotb);
        for (size_t i = 0; i < M * M; i++) /* N·K products of order 1 */
            assert_true(fabs(got[i] - G[i]) <= 1e-13 * (double)(NK + 10));
        for (size_t i = 0; i < M; i++)
            assert_true(fabs(gotb[i] - b[i]) <= 1e-13 * (double)(NK + 10));
        for (size_t m = 0; m < M; m++)
            mat_free(f + m);
        mat_free(&r);
        free(A);
    }
}

/* The measure itself: it must see a point that is not optimal. G = I, b = 0, M = 2: optimal (½, ½); at (1,
 * 0), λ = 1, g = (1, 0), so g_2 < λ by 1; at (0.6, 0.4) λ = 0.52, so |g − λ| = 0.12. */
static void the_measure_sees_what_is_wrong(void **state)
{
    (void)state;
    memcpy(G, (double[]){1, 0, 0, 1}, 4 * sizeof *G);
    memset(b, 0, sizeof b);
    assert_true(weights_kkt(G, b, 2, (double[]){0.5, 0.5}) == 0);
    assert_true(fabs(weights_kkt(G, b, 2, (double[]){1, 0}) - 1) < 1e-15);
    assert_true(fabs(weights_kkt(G, b, 2, (double[]){0.6, 0.4}) - 0.12) < 1e-15);
    assert_true(weights_kkt(G, b, 2, (double[]){1.5, -0.5}) >= 0.5);
    assert_true(weights_kkt(G, b, 2, (double[]){0.4, 0.4}) >= 0.2 - 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gram_agrees_with_its_definition),
        cmocka_unit_test(the_measure_sees_what_is_wrong),
        cmocka_unit_test(closed_forms),
        cmocka_unit_test(one_organization_has_all_weight),
        cmocka_unit_test(all_columns_zero),
        cmocka_unit_test(never_worse_than_projected_gradient),
        cmocka_unit_test(conditions_hold_for_many_organizations),
        cmocka_unit_test(copies_share_equally),
        cmocka_unit_test(least_norm_among_equals),
        cmocka_unit_test(least_norm_by_hand),
        cmocka_unit_test(a_huge_column_does_not_blur_the_rest),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
