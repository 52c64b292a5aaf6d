/* table: rows of an organization's file (CSV first). Knows no labels, no models; parses text and numbers,
 * decides nothing. */
#ifndef GAL_TABLE_H
#define GAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table; /* columns by name; a cell is text, or a number where it reads as one */

/* Opens and parses a whole file, gzip'd or not. Fields are separated by comma, semicolon or TAB (guessed from
 * the first line), quoted as in RFC 4180, blanks around them dropped; lines end in LF, CRLF or CR; blank
 * lines are skipped (in a file of one column they are an error). Missing: empty, NA, N/A, ?, NaN, null in any
 * case. The first row is a header unless all its cells are numbers or missing; without a header columns are
 * named by position, "0", "1", …, and so is one with an empty name. `error` (size bytes) receives one line
 * "FILE:LINE: what and what to do" on failure. Returns NULL on failure. Free with table_free (NULL allowed).
 * Holds the file's text and 8 bytes per cell. */
struct table *table_open(const char *path, char *error, size_t size);
void table_free(struct table *t);

/* The same for who wants a few columns as text: holds the file's text alone. Its columns are not numeric. */
struct table *table_open_words(const char *path, char *error, size_t size);

size_t table_rows(const struct table *t);
size_t table_cols(const struct table *t);
const char *table_name(const struct table *t, size_t col);

/* Column of that name (exact, after trimming), or −1. */
int table_find(const struct table *t, const char *name);

/* True if every non-missing cell of the column reads as a number (inf and 1e999 do; table_numbers then
 * refuses them). */
bool table_numeric(const struct table *t, size_t col);

/* The column as numbers, table_rows values owned by the table: NaN where missing, otherwise finite. NULL with
 * one line in `error` that names the first cell that is not a finite number. */
const double *table_numbers(const struct table *t, size_t col, char *error, size_t size);

/* One cell as the file has it (unquoted, trimmed, NUL-terminated, any encoding; "" where missing); owned by
 * the table. The first call on a column makes a pass over it (a numeric one: over the file): where every
 * column is wanted, table_record is cheaper. NULL only for lack of memory. */
const char *table_text(struct table *t, size_t row, size_t col);

/* All table_cols cells of a row as text, as table_text gives them; valid until the next call. Rows asked for
 * in order cost one pass over the file in all. NULL only for lack of memory. */
const char *const *table_record(struct table *t, size_t row);

/* Line of the file on which the row begins. Counts from the top: for messages. */
size_t table_line(const struct table *t, size_t row);

#endif
