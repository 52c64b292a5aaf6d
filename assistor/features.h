/* features: from an organization's table to the matrix its model sees. Fitted on FIT rows only, stored with
 * the run's models, applied unchanged to every other row. */
#ifndef GAL_FEATURES_H
#define GAL_FEATURES_H

#include <stdint.h>
#include "common/mat.h"
#include "common/table.h"

struct features; /* per column: kind, mean, deviation, fill value, categories */

/* Learns the preparation from rows[0…n) of the table (row positions). `columns` and `exclude` are
 * comma-separated names or NULL: the columns to use (all by default) less the excluded ones. Numeric columns
 * are standardised by mean and population deviation of the FIT rows (missing cells take the mean, and count
 * in the deviation as such); text columns become one-hot, 0 or 1: the 32 most frequent categories of the FIT
 * rows have a column each, and where there are more the rest share one more. A category never seen goes with
 * the rest, or is all zeros where there is no such column; a missing cell is all zeros. Constant and empty
 * columns are dropped. Nothing may be left: a model may see 0 columns. NULL with one line in `error`: a name
 * that the table does not have, a number that is not finite, lack of memory. */
struct features *features_fit(struct table *t, const char *columns, const char *exclude, const uint32_t *rows,
                              size_t n, char *error, size_t size);
void features_free(struct features *f);

/* Columns of the prepared matrix. */
size_t features_width(const struct features *f);

/* X (n×width, initialised by the callee; the caller frees it) for those rows of the table. The table must
 * have the columns that were fitted, in any order, numbers where numbers were fitted. X is finite. 0, or −1
 * with one line in `error` and X empty. */
int features_apply(const struct features *f, struct table *t, const uint32_t *rows, size_t n, struct mat *X,
                   char *error, size_t size);

/* As bytes (malloc'd) and back; NULL on bytes that are not features. */
uint8_t *features_save(const struct features *f, size_t *size);
struct features *features_load(const uint8_t *bytes, size_t size);

#endif
