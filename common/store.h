/* store: one process's SQLite database. Every failure (disk full, damage) ends the process with one line:
 * what is not on record must not be acted on, and the supervisor starts again from what is. */
#ifndef GAL_STORE_H
#define GAL_STORE_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

struct store {
    sqlite3 *db;
    const char *path;
};

/* Opens or creates the database at `path` (which must outlive it) in WAL mode: a commit survives the end of
 * the process. `schema` is run once, when the database is new; one of another `version` ends the process with
 * a line that says so. */
void store_open(struct store *s, const char *path, const char *schema, int version);
void store_close(struct store *s);

/* Runs one statement. `format` has a letter for each ?: i int64_t, r double, t text (NULL allowed), b blob
 * (const void *, size_t). Returns the row id of the last insert. */
int64_t store_run(struct store *s, const char *sql, const char *format, ...);

/* Begins a query; the statement stands on its first row, or is NULL if there is none. Go on with store_next.
 */
sqlite3_stmt *store_query(struct store *s, const char *sql, const char *format, ...);

/* The statement on its next row; after the last one it is finished and NULL comes back. */
sqlite3_stmt *store_next(struct store *s, sqlite3_stmt *q);

/* Ends a query before its last row. NULL allowed. */
void store_done(sqlite3_stmt *q);

/* A copy of a blob column (malloc'd; NULL if it is NULL), and its size. */
void *store_blob(sqlite3_stmt *q, int column, size_t *size);

#endif
