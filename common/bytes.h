/* bytes: little-endian fields of what is stored. A reader runs off its end only into `bad`, so a loader may
 * read on and ask once. */
#ifndef GAL_BYTES_H
#define GAL_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes_in {
    const uint8_t *p, *end;
    bool bad; /* something was asked for that is not there */
};

/* The next n bytes, or NULL if there are fewer. */
static inline const uint8_t *bytes_take(struct bytes_in *in, size_t n)
{
    const uint8_t *p = in->p;

    if (in->bad || (size_t)(in->end - p) < n) {
        in->bad = true;
        return NULL;
    }
    in->p += n;
    return p;
}

static inline uint32_t bytes_u32(struct bytes_in *in)
{
    const uint8_t *p = bytes_take(in, 4);
    uint32_t v = 0;

    if (p)
        memcpy(&v, p, 4);
    return le32toh(v);
}

static inline double bytes_f64(struct bytes_in *in)
{
    const uint8_t *p = bytes_take(in, 8);
    uint64_t v = 0;
    double x;

    if (p)
        memcpy(&v, p, 8);
    v = le64toh(v);
    memcpy(&x, &v, 8);
    return x;
}

/* Writers: the caller has made the room; they return what follows. */
static inline uint8_t *bytes_put(uint8_t *p, const void *from, size_t n)
{
    return n ? (uint8_t *)memcpy(p, from, n) + n : p;
}

static inline uint8_t *bytes_put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    return bytes_put(p, &v, 4);
}

static inline uint8_t *bytes_put_f64(uint8_t *p, double x)
{
    uint64_t v;

    memcpy(&v, &x, 8);
    v = htole64(v);
    return bytes_put(p, &v, 8);
}

#endif
