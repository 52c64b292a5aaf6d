/* mat: a dense row-major matrix of doubles. The one container for residuals, fitted values, scores and
 * features. */
#ifndef GAL_MAT_H
#define GAL_MAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mat {
    size_t n, k; /* rows, columns */
    double *a;   /* n·k values, row-major: value (i, j) is a[i * k + j] */
};

/* Element types that may cross a wire or a pipe. */
enum dtype { DTYPE_F32 = 1, DTYPE_F64 = 2, DTYPE_U32 = 3 };

/* Bytes of one element; 0 for an unknown type. */
size_t dtype_size(uint32_t dtype);

/* An n×k matrix of zeros on 64-byte-aligned memory, which the matrix owns. 0, or −1 with errno ENOMEM (also
 * on overflow). */
int mat_init(struct mat *m, size_t n, size_t k);

/* Gives the memory back and leaves an empty matrix. An empty matrix is allowed. */
void mat_free(struct mat *m);

/* Index of the first of n values that is NaN or infinite, or −1 if all are finite. */
ssize_t mat_nonfinite(const double *a, size_t n);

/* n doubles to and from little-endian f32 or f64 bytes; `bytes` need not be aligned. */
void mat_encode(const double *a, size_t n, enum dtype dtype, uint8_t *bytes);
void mat_decode(const uint8_t *bytes, size_t n, enum dtype dtype, double *a);

#endif
