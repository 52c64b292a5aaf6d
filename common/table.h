/* table: rows of an organization's file (CSV first). Knows no labels, no models; parses text and numbers, decides nothing. */
#ifndef GAL_TABLE_H
#define GAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table; /* columns by name; a cell is text, or a number where it reads as one */

/* Opens and parses a whole file. `error` (size bytes) receives one line "FILE:LINE: what and what to do" on failure.
 * Returns NULL on failure. Free with table_free (NULL allowed). */
struct table *table_open(const char *path, char *error, size_t size);
void table_free(struct table *t);

size_t table_rows(const struct table *t);
size_t table_cols(const struct table *t);
const char *table_name(const struct table *t, size_t col);

/* Column of that name (exact, after trimming), or −1. */
int table_find(const struct table *t, const char *name);

/* True if every non-missing cell of the column reads as a finite number. */
bool table_numeric(const struct table *t, size_t col);

/* The column as numbers, table_rows values owned by the table: NaN where missing. NULL if it is not numeric. */
const double *table_numbers(struct table *t, size_t col);

/* One cell as the file has it (unquoted, trimmed, NUL-terminated; "" where missing); owned by the table. */
const char *table_text(struct table *t, size_t row, size_t col);

/* Line of the file on which the row begins, for messages. */
size_t table_line(const struct table *t, size_t row);

#endif
