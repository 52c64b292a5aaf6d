/* mat: allocation, the search for values that are no numbers, and bytes as the wire sees them. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "common/mat.h"

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_F64), 8);
    assert_int_equal(dtype_size(DTYPE_U32), 4);
    assert_int_equal(dtype_size(0), 0);
    assert_int_equal(dtype_size(UINT32_MAX), 0);
}

static void init_gives_aligned_zeros(void **state)
{
    static const size_t shapes[][2] = {{0, 0}, {0, 5}, {1, 1}, {7, 1}, {8, 1}, {9, 1}, {1000, 3}};
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct mat m;
        assert_int_equal(mat_init(&m, shapes[s][0], shapes[s][1]), 0);
        assert_int_equal(m.n, shapes[s][0]);
        assert_int_equal(m.k, shapes[s][1]);
        assert_int_equal((uintptr_t)m.a % 64, 0);
        for (size_t i = 0; i < m.n * m.k; i++)
            assert_true(m.a[i] == 0 && !signbit(m.a[i]));
        mat_free(&m);
        assert_null(m.a);
        mat_free(&m);
    }
}

static void init_refuses_overflow(void **state)
{
    static const size_t shapes[][2] = {
        {SIZE_MAX, 2}, {SIZE_MAX / 8 + 1, 1}, {(size_t)1 << 32, (size_t)1 << 32}, {SIZE_MAX / 8, 1}};
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct mat m;
        errno = 0;
        assert_int_equal(mat_init(&m, shapes[s][0], shapes[s][1]), -1);
        assert_int_equal(errno, ENOMEM);
        assert_null(m.a);
        mat_free(&m);
    }
}

static void nonfinite_finds_the_first(void **state)
{
    double a[5] = {0, -1, 1e308, -5e-324, 2};
    (void)state;
    assert_int_equal(mat_nonfinite(a, 5), -1);
    assert_int_equal(mat_nonfinite(a, 0), -1);
    a[4] = NAN;
    assert_int_equal(mat_nonfinite(a, 5), 4);
    assert_int_equal(mat_nonfinite(a, 4), -1);
    a[2] = -INFINITY;
    assert_int_equal(mat_nonfinite(a, 5), 2);
}

/* 1, −2 and 0.1 in IEEE 754, least significant byte first; 0.1 = 0x3dcccccd and 0x3fb999999999999a. */
static void encode_is_little_endian(void **state)
{
    static const double a[3] = {1, -2, 0.1};
    static const uint8_t f32[12] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0xcd, 0xcc, 0xcc, 0x3d};
    static const uint8_t f64[24] = {0, 0, 0, 0,    0,    0,    0xf0, 0x3f, 0,    0,    0,    0,
                                    0, 0, 0, 0xc0, 0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f};
    uint8_t bytes[25];
    double back[3];

    (void)state;
    mat_encode(a, 3, DTYPE_F32, bytes + 1); /* + 1: unaligned */
    assert_memory_equal(bytes + 1, f32, sizeof f32);
    mat_decode(bytes + 1, 3, DTYPE_F32, back);
    assert_true(back[0] == 1 && back[1] == -2 && back[2] == (double)0.1f);

    mat_encode(a, 3, DTYPE_F64, bytes + 1);
    assert_memory_equal(bytes + 1, f64, sizeof f64);
    mat_decode(bytes + 1, 3, DTYPE_F64, back);
    assert_memory_equal(back, a, sizeof a);
}

static void infinities_survive(void **state)
{
    const double a[3] = {1e300, -INFINITY, NAN};
    uint8_t bytes[12];
    double back[3];

    (void)state;
    mat_encode(a, 3, DTYPE_F32, bytes); /* beyond f32's range: infinite, so that mat_nonfinite finds it */
    mat_decode(bytes, 3, DTYPE_F32, back);
    assert_true(isinf(back[0]) && back[0] > 0);
    assert_true(isinf(back[1]) && back[1] < 0);
    assert_true(isnan(back[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(init_gives_aligned_zeros),
        cmocka_unit_test(init_refuses_overflow),
        cmocka_unit_test(nonfinite_finds_the_first),
        cmocka_unit_test(encode_is_little_endian),
        cmocka_unit_test(infinities_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
