#ifndef GAL_FUZZ_TRACE_H
#define GAL_FUZZ_TRACE_H

#include <stdbool.h>
#include <stddef.h>

/* Reads a file as `gal trace --verify` does: is its chain whole? *lines: how many it has. */
bool gal_trace_verify(const char *path, size_t *lines);

/* Do two whole files tell the same of the runs they share? *shared: how many exchanges. */
bool gal_trace_compare(const char *a, const char *b, size_t *shared);

#endif
