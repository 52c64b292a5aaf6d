/* mat: storage and byte order of the one numeric container. Knows nothing of what the numbers mean. */
#include "common/mat.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 64 /* a cache line, and the widest vector register */

size_t dtype_size(uint32_t dtype)
{
    switch (dtype) {
    case DTYPE_F32:
    case DTYPE_U32:
        return 4;
    case DTYPE_F64:
        return 8;
    default:
        return 0;
    }
}

int mat_init(struct mat *m, size_t n, size_t k)
{
    size_t bytes;

    *m = (struct mat){0};
    if (__builtin_mul_overflow(n, k, &bytes) || __builtin_mul_overflow(bytes, sizeof(double), &bytes) ||
        __builtin_add_overflow(bytes, (size_t)ALIGN, &bytes) || bytes > PTRDIFF_MAX) {
        errno = ENOMEM;
        return -1;
    }
    bytes -= bytes % ALIGN; /* one line too many at worst, so that n·k = 0 is an allocation as well */
    m->a = aligned_alloc(ALIGN, bytes);
    if (!m->a)
        return -1;
    memset(m->a, 0, bytes);
    m->n = n;
    m->k = k;
    return 0;
}

void mat_free(struct mat *m)
{
    free(m->a);
    *m = (struct mat){0};
}

ssize_t mat_nonfinite(const double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a[i]))
            return (ssize_t)i;
    return -1;
}

void mat_encode(const double *a, size_t n, enum dtype dtype, uint8_t *bytes)
{
    for (size_t i = 0; i < n && dtype == DTYPE_F64; i++) {
        uint64_t u;
        memcpy(&u, a + i, sizeof u);
        u = htole64(u);
        memcpy(bytes + 8 * i, &u, sizeof u);
    }
    for (size_t i = 0; i < n && dtype == DTYPE_F32; i++) {
        float f = (float)a[i];
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        u = htole32(u);
        memcpy(bytes + 4 * i, &u, sizeof u);
    }
}

void mat_decode(const uint8_t *bytes, size_t n, enum dtype dtype, double *a)
{
    for (size_t i = 0; i < n && dtype == DTYPE_F64; i++) {
        uint64_t u;
        memcpy(&u, bytes + 8 * i, sizeof u);
        u = le64toh(u);
        memcpy(a + i, &u, sizeof u);
    }
    for (size_t i = 0; i < n && dtype == DTYPE_F32; i++) {
        float f;
        uint32_t u;
        memcpy(&u, bytes + 4 * i, sizeof u);
        u = le32toh(u);
        memcpy(&f, &u, sizeof f);
        a[i] = f;
    }
}
