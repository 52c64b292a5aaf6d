#include "common/store.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

_Noreturn static void fail(struct store *s, const char *what)
{
    log_die(1, "%s: %s (%s): mend the disk or move the file away, then start again", s->path,
            sqlite3_errmsg(s->db), what);
}

static void execute(struct store *s, const char *sql)
{
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(s, sql);
}

void store_open(struct store *s, const char *path, const char *schema, int version)
{
    s->path = path;
    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        fail(s, "open");
    sqlite3_busy_timeout(s->db, 5000); /* somebody looks into the file */
    execute(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; "
               "PRAGMA temp_store = MEMORY;"); /* /tmp is closed to us */
    sqlite3_stmt *q = store_query(s, "PRAGMA user_version", "");
    int found = sqlite3_column_int(q, 0);
    store_done(q);
    if (found == version)
        return;
    if (found)
        log_die(2, "%s is of format %d, this program writes %d: use the release that made it", path, found,
                version);
    char set[64];
    sqlite3_snprintf(sizeof set, set, "PRAGMA user_version = %d", version);
    execute(s, "BEGIN");
    execute(s, schema);
    execute(s, set);
    execute(s, "COMMIT");
}

void store_close(struct store *s)
{
    sqlite3_close(s->db);
    s->db = NULL;
}

static sqlite3_stmt *prepare(struct store *s, const char *sql, const char *format, va_list ap)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
        fail(s, sql);
    int bad = SQLITE_OK;
    for (int i = 1; *format && bad == SQLITE_OK; format++, i++) {
        if (*format == 'i') {
            bad = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
        } else if (*format == 'r') {
            bad = sqlite3_bind_double(q, i, va_arg(ap, double));
        } else if (*format == 't') {
            bad = sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
        } else {
            const void *bytes = va_arg(ap, const void *);
            bad = sqlite3_bind_blob64(q, i, bytes, va_arg(ap, size_t), SQLITE_STATIC);
        }
    }
    if (bad != SQLITE_OK)
        fail(s, sql);
    return q;
}

int64_t store_run(struct store *s, const char *sql, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    sqlite3_stmt *q = prepare(s, sql, format, ap);
    va_end(ap);
    int got = sqlite3_step(q);
    if (got != SQLITE_DONE && got != SQLITE_ROW)
        fail(s, sql);
    sqlite3_finalize(q);
    return sqlite3_last_insert_rowid(s->db);
}

sqlite3_stmt *store_query(struct store *s, const char *sql, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    sqlite3_stmt *q = prepare(s, sql, format, ap);
    va_end(ap);
    return store_next(s, q);
}

sqlite3_stmt *store_next(struct store *s, sqlite3_stmt *q)
{
    int got = sqlite3_step(q);
    if (got == SQLITE_ROW)
        return q;
    if (got != SQLITE_DONE)
        fail(s, sqlite3_sql(q));
    sqlite3_finalize(q);
    return NULL;
}

void store_done(sqlite3_stmt *q)
{
    sqlite3_finalize(q);
}

void *store_blob(sqlite3_stmt *q, int column, size_t *size)
{
    const void *bytes = sqlite3_column_blob(q, column);
    *size = (size_t)sqlite3_column_bytes(q, column);
    void *copy = bytes ? malloc(*size ? *size : 1) : NULL;
    if (copy)
        memcpy(copy, bytes, *size);
    return copy;
}
