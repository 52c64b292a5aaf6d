/* number: decimal text to the nearest double, whatever the locale. In a header because a table calls it once
 * per cell. Whoever includes it defines _GNU_SOURCE first (strtod_l). */
#ifndef GAL_NUMBER_H
#define GAL_NUMBER_H

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* m · 10^e, correctly rounded, for m > 0 and |e| ≤ 19. The quotient of a 128-bit dividend has at least 64
 * bits, so its lowest bit may stand for "and a remainder": conversion then rounds as if it had seen every
 * digit. */
static inline double number_wide(uint64_t m, int e)
{
    static const uint64_t ten[] = {1u,
                                   10u,
                                   100u,
                                   1000u,
                                   10000u,
                                   100000u,
                                   1000000u,
                                   10000000u,
                                   100000000u,
                                   1000000000u,
                                   10000000000u,
                                   100000000000u,
                                   1000000000000u,
                                   10000000000000u,
                                   100000000000000u,
                                   1000000000000000u,
                                   10000000000000000u,
                                   100000000000000000u,
                                   1000000000000000000u,
                                   10000000000000000000u};

    if (e >= 0)
        return (double)((unsigned __int128)m * ten[e]);
    int lead = __builtin_clzll(m);
    unsigned __int128 n = (unsigned __int128)(m << lead) << 64;
    unsigned __int128 q = n / ten[-e];
    if (q * ten[-e] != n)
        q |= 1;
    return ldexp((double)q, -64 - lead);
}

/* Reads [+-]digits[.digits][e[+-]digits] at p; returns what follows it, or NULL if no number begins there.
 * The text must be followed by some byte that cannot continue a number. A value beyond the range of doubles
 * comes out infinite. `c` is the "C" locale. Exact cases first (Clinger 1990): m ≤ 2^53 and 10^|e|, |e| ≤ 22,
 * are doubles, so one operation rounds once. */
static inline const char *number_scan(const char *p, locale_t c, double *value)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *start = p, *digits;
    uint64_t m = 0;
    long e = 0, n;

    if (*p == '-' || *p == '+')
        p++;
    for (digits = p; (unsigned char)(*p - '0') < 10; p++)
        m = m * 10 + (uint64_t)(*p - '0');
    n = p - digits;
    if (*p == '.') {
        for (digits = ++p; (unsigned char)(*p - '0') < 10; p++)
            m = m * 10 + (uint64_t)(*p - '0');
        e = digits - p;
        n -= e;
    }
    if (n == 0)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        const char *q = p + 1;
        long power = 0;
        if (*q == '-' || *q == '+')
            q++;
        if ((unsigned char)(*q - '0') < 10) {
            for (; (unsigned char)(*q - '0') < 10; q++)
                power = power < 100000 ? power * 10 + (*q - '0') : power;
            e += p[1] == '-' ? -power : power;
            p = q;
        }
    }
    if (n <= 19 && m <= (uint64_t)1 << 53 && e >= -22 && e <= 22)
        *value = e < 0 ? (double)m / ten[-e] : (double)m * ten[e];
    else if (n <= 19 && m > 0 && e >= -19 && e <= 19)
        *value = number_wide(m, (int)e);
    else {
        *value = strtod_l(start, NULL, c);
        return p;
    }
    if (*start == '-')
        *value = -*value;
    return p;
}

#endif
