/* weights: a Gram matrix, then a quadratic program of M unknowns, solved exactly.
 *
 *     min ½xᵀGx − bᵀx   over the simplex {x ≥ 0, Σx = 1} or the cone {x ≥ 0}
 *
 * Active set, primal (Wolfe, "Finding the nearest point in a polytope", Math. Programming 11, 1976; Lawson
 * and Hanson, "Solving Least Squares Problems", 1974, chapter 23, for the cone). S holds the indices that are
 * free, x_i = 0 outside. In turn
 *   1. minimise over the face of S by a Newton step, cut short where a coordinate reaches 0, which then
 * leaves S;
 *   2. at the minimum of the face, g = Gx − b equals λ on S (the cone: λ = 0); the index with g_j < λ by the
 * most enters. Each step lowers the objective, so no S comes back at its minimum and the method ends, after
 * about 2M steps in practice.
 *
 * G may be singular: copied columns, M > n. The Newton step solves with H + D, D a diagonal at the size of
 * H's rounding error: a proximal step, whose minimum is H's own once repeated, and which along a flat
 * direction runs until a bound stops it.
 *
 * The minimisers are then all w ≥ 0 with support in T = {g_i = λ} and w − w* in the null space of G_TT and
 * 1ᵀ: g is the same at each of them. With P the projector on that space and p = w* − Pw*, the one of least
 * norm is w = p + Pu, where u ≥ 0 are the multipliers of w ≥ 0: min ½uᵀPu + pᵀu over the cone, the same
 * problem again. */
#include "sponsor/weights.h"

#include <cblas.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PANEL 16384 /* values of a packed block of rows: 128 KiB, well inside a core's own cache */

/* LAPACK: Cholesky factor and solve; eigenvalues and vectors of a symmetric matrix. */
void dpotrf_(const char *uplo, const blasint *n, double *a, const blasint *lda, blasint *info);
void dpotrs_(const char *uplo, const blasint *n, const blasint *nrhs, const double *a, const blasint *lda,
             double *b, const blasint *ldb, blasint *info);
void dsyev_(const char *jobz, const char *uplo, const blasint *n, double *a, const blasint *lda, double *w,
            double *work, const blasint *lwork, blasint *info);

int weights_gram(const struct mat *const *f, size_t M, const struct mat *r, double *G, double *b)
{
    size_t n = r->n * r->k, R = M + 1, B = PANEL / R > 64 ? PANEL / R : 64;
    double *C = calloc(R * R, sizeof *C), *panel = malloc(R * B * sizeof *panel);
    int rc = -1;

    if (!C || !panel)
        goto out;
    for (size_t i = 0; i < n; i += B) {
        size_t rows = n - i < B ? n - i : B;
        for (size_t m = 0; m < M; m++)
            memcpy(panel + m * B, f[m]->a + i, rows * sizeof *panel);
        memcpy(panel + M * B, r->a + i, rows * sizeof *panel);
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)R, (blasint)rows, 1, panel, (blasint)B,
                    1, C, (blasint)R);
    }
    for (size_t m = 0; m < M; m++)
        for (size_t l = 0; l <= m; l++)
            G[m * M + l] = G[l * M + m] = C[m * R + l];
    memcpy(b, C + M * R, M * sizeof *b);
    rc = 0;
out:
    free(panel);
    free(C);
    return rc;
}

/* A problem and the state of its solver; everything is allocated once. */
struct qp {
    const double *G, *b;
    size_t M;
    bool simplex;
    double *x;   /* M: the point, feasible at all times */
    double *g;   /* M: Gx − b */
    double *tol; /* M: what rounding may have done to g */
    double *H;   /* M×M: the Hessian of the face, factored in place */
    double *d;   /* M: the step, in the order of S */
    size_t *S;   /* the free indices, s of them */
    size_t s;
    bool *free; /* M: is i in S */
};

static int qp_init(struct qp *q, const double *G, const double *b, size_t M, bool simplex, double *x)
{
    *q = (struct qp){.G = G, .b = b, .M = M, .simplex = simplex, .x = x};
    q->g = malloc(M * sizeof *q->g);
    q->tol = malloc(M * sizeof *q->tol);
    q->H = malloc(M * M * sizeof *q->H);
    q->d = malloc(M * sizeof *q->d);
    q->S = malloc(M * sizeof *q->S);
    q->free = calloc(M, sizeof *q->free);
    return q->g && q->tol && q->H && q->d && q->S && q->free ? 0 : -1;
}

static void qp_free(struct qp *q)
{
    free(q->g);
    free(q->tol);
    free(q->H);
    free(q->d);
    free(q->S);
    free(q->free);
}

static void enter(struct qp *q, size_t j)
{
    q->S[q->s++] = j;
    q->free[j] = true;
}

/* g ← Gx − b, with each value's own bound on its rounding: one organization's huge values must not blur the
 * others'. */
static void gradient(struct qp *q)
{
    for (size_t i = 0; i < q->M; i++) {
        double g = -q->b[i], size = fabs(g);
        for (size_t k = 0; k < q->s; k++) {
            double t = q->G[i * q->M + q->S[k]] * q->x[q->S[k]];
            g += t;
            size += fabs(t);
        }
        q->g[i] = g;
        q->tol[i] = 4 * (double)(q->M + 8) * DBL_EPSILON * size;
    }
}

/* λ = xᵀg and what rounding may have done to it; 0 on the cone, but for the noise of the data itself. */
static double level(const struct qp *q, double *tol)
{
    double lambda = 0;

    *tol = 0;
    for (size_t k = 0; k < q->s && q->simplex; k++) {
        lambda += q->x[q->S[k]] * q->g[q->S[k]];
        *tol += q->x[q->S[k]] * q->tol[q->S[k]];
    }
    for (size_t i = 0; i < q->M && !q->simplex; i++)
        *tol = fmax(*tol, 4 * DBL_EPSILON * fabs(q->b[i]));
    return lambda;
}

static bool face_optimal(const struct qp *q)
{
    double tol, lambda = level(q, &tol);

    for (size_t k = 0; k < q->s; k++)
        if (fabs(q->g[q->S[k]] - lambda) > q->tol[q->S[k]] + tol)
            return false;
    return true;
}

/* The index outside S whose entry lowers the objective fastest; M if none does. */
static size_t entering(const struct qp *q)
{
    double tol, lambda = level(q, &tol), worst = 0;
    size_t j = q->M;

    for (size_t i = 0; i < q->M; i++) {
        double slope = q->g[i] - lambda;
        if (!q->free[i] && slope < -(q->tol[i] + tol) && slope < worst) {
            worst = slope;
            j = i;
        }
    }
    return j;
}

/* On the simplex x_o, o = S[0], is eliminated: d_o = −Σ others. The o of the least G_oo spoils the others'
 * digits least. */
static void choose_origin(struct qp *q)
{
    for (size_t k = 1; k < q->s; k++) {
        size_t i = q->S[k], o = q->S[0];
        if (q->G[i * q->M + i] < q->G[o * q->M + o]) {
            q->S[0] = i;
            q->S[k] = o;
        }
    }
}

/* H ← the Hessian of the face plus D times `more`: H_ij = G_ij − G_io − G_oj + G_oo, on the cone G_ij itself.
 */
static void hessian(struct qp *q, size_t first, double more)
{
    const double *G = q->G;
    size_t M = q->M, n = q->s - first, o = q->S[0];
    double largest = 0, Goo = first ? G[o * M + o] : 0;

    for (size_t k = 0; k < q->s; k++)
        largest = fmax(largest, G[q->S[k] * M + q->S[k]]);
    for (size_t k = 0; k < n; k++) {
        size_t i = q->S[k + first];
        for (size_t l = 0; l <= k; l++) {
            size_t j = q->S[l + first];
            q->H[k * n + l] = first ? (G[i * M + j] - G[i * M + o]) - (G[o * M + j] - Goo) : G[i * M + j];
        }
        double size = G[i * M + i] + Goo;
        if (!first || size <= 0)
            size += 1e-8 * largest; /* the cone's problem has one scale; two zero columns have none */
        q->H[k * n + k] += more * (double)(8 * q->s) * DBL_EPSILON * size;
        if (largest <= 0)
            q->H[k * n + k] = 1; /* linear: any length will do, bounds stop it */
    }
}

/* d ← −(H + D)⁻¹ times the gradient within the face. False when there is nothing to move. */
static bool newton(struct qp *q)
{
    blasint n, one = 1, info = 1;
    size_t first = q->simplex;

    if (q->s <= first)
        return false;
    if (q->simplex)
        choose_origin(q);
    n = (blasint)(q->s - first);
    for (double more = 1; info && more < 1e12; more *= 10) {
        hessian(q, first, more);
        dpotrf_("U", &n, q->H, &n, &info); /* row-major lower is column-major upper */
    }
    if (info)
        return false;
    for (size_t k = first; k < q->s; k++)
        q->d[k] = -(q->g[q->S[k]] - (first ? q->g[q->S[0]] : 0));
    dpotrs_("U", &n, &one, q->H, &n, q->d + first, &n, &info);
    if (first) {
        q->d[0] = 0;
        for (size_t k = 1; k < q->s; k++)
            q->d[0] -= q->d[k];
    }
    return mat_nonfinite(q->d, q->s) < 0;
}

/* x ← x + αd with the largest α ≤ 1 that keeps x ≥ 0; what reaches 0 leaves S. Whether something did. */
static bool step(struct qp *q)
{
    double alpha = 1, sum = 0;
    size_t blocking = q->s, kept = 0;

    for (size_t k = 0; k < q->s; k++)
        if (q->x[q->S[k]] + alpha * q->d[k] <= 0 && q->d[k] < 0) {
            alpha = q->x[q->S[k]] / -q->d[k];
            blocking = k;
        }
    for (size_t k = 0; k < q->s; k++) {
        size_t i = q->S[k];
        double x = q->x[i] + alpha * q->d[k];
        q->free[i] = k != blocking && x > 0;
        q->x[i] = q->free[i] ? x : 0;
        if (q->free[i])
            q->S[kept++] = i;
        sum += q->x[i];
    }
    for (size_t k = 0; k < kept && q->simplex; k++)
        q->x[q->S[k]] /= sum;
    blocking = kept < q->s;
    q->s = kept;
    return blocking;
}

/* Start: on the simplex the best vertex, on the cone its apex. The limit is a guard against rounding; x is
 * feasible anyway. */
static void solve(struct qp *q)
{
    size_t limit = 200 + 50 * q->M, best = 0;
    int again = 0;

    for (size_t i = 0; i < q->M; i++) {
        q->x[i] = 0;
        if (0.5 * q->G[i * q->M + i] - q->b[i] < 0.5 * q->G[best * q->M + best] - q->b[best])
            best = i;
    }
    if (q->simplex) {
        enter(q, best);
        q->x[best] = 1;
    }
    while (limit--) {
        gradient(q);
        if (face_optimal(q) || again == 8 || !newton(q)) {
            size_t j = entering(q);
            if (j == q->M)
                return;
            enter(q, j);
            again = 0;
            if (!newton(q))
                return;
        }
        again = step(q) ? 0 : again + 1;
    }
}

/* c (t): the scales that give G_TT a diagonal of ones, so that each column is judged by its own size. A
 * column of zeros takes the scale of the smallest. */
static void column_scales(const struct qp *q, const size_t *T, size_t t, double *c)
{
    double smallest = INFINITY;

    for (size_t k = 0; k < t; k++) {
        c[k] = q->G[T[k] * q->M + T[k]];
        if (c[k] > 0)
            smallest = fmin(smallest, c[k]);
    }
    for (size_t k = 0; k < t; k++)
        c[k] = 1 / sqrt(c[k] > 0 ? c[k] : isfinite(smallest) ? smallest : 1);
}

/* Rows v_0 … v_{n−1} of length t ← an orthonormal basis of what they span: Gram–Schmidt, twice for full
 * precision. */
static void orthonormalise(double *V, size_t n, size_t t)
{
    blasint len = (blasint)t;

    for (size_t k = 0; k < n; k++) {
        double *v = V + k * t;
        cblas_dscal(len, 1 / cblas_dnrm2(len, v, 1), v, 1);
        for (size_t l = 0; l < 2 * k; l++)
            cblas_daxpy(len, -cblas_ddot(len, V + l % k * t, 1, v, 1), V + l % k * t, 1, v, 1);
        cblas_dscal(len, 1 / cblas_dnrm2(len, v, 1), v, 1);
    }
}

/* P (t×t) ← the projector on the directions d along which nothing changes: G_TT d = 0 and 1ᵀd = 0. With d =
 * Cv, C = diag c, they are the null space of C G_TT C + ssᵀ, s = C1/‖C1‖, a sum of positive semi-definite
 * matrices; eigenvalues up to 1e−13 count as 0. Their number, or −1. */
static ssize_t flat_projector(const struct qp *q, const size_t *T, size_t t, double *P)
{
    blasint n = (blasint)t, lwork = (blasint)(34 * t + 1), info;
    double *A = malloc(t * t * sizeof *A), *ev = malloc(2 * t * sizeof *ev), *c = ev + t,
           *work = malloc((size_t)lwork * sizeof *work), norm2;
    ssize_t flat = -1;

    if (!A || !ev || !work)
        goto out;
    column_scales(q, T, t, c);
    norm2 = cblas_ddot(n, c, 1, c, 1);
    for (size_t k = 0; k < t; k++)
        for (size_t l = 0; l < t; l++)
            A[k * t + l] = c[k] * (q->G[T[k] * q->M + T[l]] + 1 / norm2) * c[l];
    dsyev_("V", "U", &n, A, &n, ev, work, &lwork, &info);
    flat = 0;
    while (!info && (size_t)flat < t && ev[flat] <= 1e-13 + 4 * (double)t * DBL_EPSILON)
        flat++; /* ascending; eigenvector k is row k of A seen row-major */
    for (size_t i = 0; i < (size_t)flat * t; i++)
        A[i] *= c[i % t];
    orthonormalise(A, (size_t)flat, t);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, n, (blasint)flat, 1, A, n, A, n, 0, P, n);
out:
    free(A);
    free(ev);
    free(work);
    return flat;
}

/* w ← max(p + Pu, 0) on T, 0 elsewhere, scaled to sum 1: rounding only. */
static void assemble(const struct qp *q, const size_t *T, size_t t, const double *P, const double *p,
                     const double *u, double *w)
{
    double sum = 0;

    memset(w, 0, q->M * sizeof *w);
    for (size_t k = 0; k < t; k++) {
        double v = p[k] + cblas_ddot((blasint)t, P + k * t, 1, u, 1);
        w[T[k]] = u[k] > 0 ? 0 : fmax(v, 0);
        sum += w[T[k]];
    }
    cblas_dscal((blasint)q->M, 1 / sum, w, 1);
}

/* Moves q->x, a minimiser, to the minimiser of least norm; leaves it where rounding would make it worse. */
static int least_norm(struct qp *q)
{
    size_t M = q->M, t = 0, *T = malloc(M * sizeof *T);
    double *P = malloc(M * M * sizeof *P), *v = malloc(3 * M * sizeof *v), *p = v, *u, *w, tol, lambda;
    struct qp dual = {0};
    ssize_t flat;
    int rc = -1;

    if (!T || !P || !v)
        goto out;
    u = v + M;
    w = u + M;
    gradient(q);
    lambda = level(q, &tol);
    for (size_t i = 0; i < M; i++)
        if (q->free[i] || q->g[i] - lambda <= 100 * (q->tol[i] + tol))
            T[t++] = i;
    flat = flat_projector(q, T, t, P);
    if (flat < 0)
        goto out;
    if (flat > 0) {
        for (size_t k = 0; k < t; k++) {
            p[k] = -q->x[T[k]];
            for (size_t l = 0; l < t; l++)
                p[k] += P[k * t + l] * q->x[T[l]];
        }
        if (qp_init(&dual, P, p, t, false, u)) /* p here is b: minus the p of the text */
            goto out;
        solve(&dual);
        cblas_dscal((blasint)t, -1, p, 1);
        assemble(q, T, t, P, p, u, w);
        if (weights_kkt(q->G, q->b, M, w) <= fmax(weights_kkt(q->G, q->b, M, q->x), 1e-12))
            memcpy(q->x, w, M * sizeof *w);
    }
    rc = 0;
out:
    qp_free(&dual);
    free(T);
    free(P);
    free(v);
    return rc;
}

int weights_exact(const double *G, const double *b, size_t M, double *w)
{
    struct qp q;
    int rc = -1;

    if (mat_nonfinite(G, M * M) >= 0 || mat_nonfinite(b, M) >= 0) {
        errno = EDOM;
        return -1;
    }
    if (qp_init(&q, G, b, M, true, w))
        goto out;
    solve(&q);
    rc = least_norm(&q);
out:
    qp_free(&q);
    return rc;
}

double weights_kkt(const double *G, const double *b, size_t M, const double *w)
{
    double scale = 0, sum = 0, lambda = 0, worst = 0, gap = 0;

    for (size_t i = 0; i < M * M; i++)
        scale = fmax(scale, fabs(G[i]));
    for (size_t i = 0; i < M; i++) {
        scale = fmax(scale, fabs(b[i]));
        sum += w[i];
        lambda += w[i] * (cblas_ddot((blasint)M, G + i * M, 1, w, 1) - b[i]);
        worst = fmax(worst, -w[i]);
    }
    for (size_t i = 0; i < M; i++) {
        double slope = cblas_ddot((blasint)M, G + i * M, 1, w, 1) - b[i] - lambda;
        gap = fmax(gap, w[i] > 0 ? fabs(slope) : -slope);
    }
    return fmax(fmax(worst, fabs(sum - 1)), scale > 0 ? gap / scale : gap);
}
