/* table: rows of an organization's file. Holds private data: what it says of a cell goes to the caller's
 * error line and nowhere else. It may not know what a column means.
 *
 * One pass: each cell is tried as a number first and kept as a double; a column that meets a word keeps
 * offsets into the file's text instead. The text is a copy in memory, not a mapping, so that a file edited
 * under a running daemon changes nothing. It is followed by a NUL and contains none, which is the only bounds
 * check that the scanners below need. */
#include "common/table.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "common/number.h"

#define MARK  64          /* rows between two remembered row starts */
#define CHUNK (64 * 1024) /* bytes of cell text taken at a time */

struct column {
    char *name;
    double *numbers;   /* while every cell so far reads as a number, else NULL */
    size_t *offsets;   /* otherwise: where each cell begins in the text */
    const char **text; /* the cells, once somebody asked for them */
    size_t odd; /* first row with a word, or with a number that is not finite; SIZE_MAX if there is none */
};

struct chunk {
    struct chunk *next;
    size_t left;
    char *free;
    char bytes[];
};

struct table {
    char *path, *text;
    size_t size;
    char delim;
    bool header;
    bool words; /* cells are not kept at all, only found again in the text */
    locale_t locale;
    size_t cols, rows, room;
    struct column *columns;
    size_t *by_name;
    size_t *marks; /* offset of rows 0, MARK, 2 MARK, … */
    struct chunk *chunks;
    const char **record; /* the row last asked for */
    char *record_text;
    size_t record_room;
    size_t next_row, next; /* the row after it, and its offset */
    char *error;
    size_t error_size;
};

/* A field's content: trimmed, quotes still doubled. */
struct field {
    const char *p, *end;
    bool doubled;
    const char *wrong; /* why there is no field here, and */
    const char *at;    /* where */
};

/* Lines are counted only when there is something to say. */
static size_t line_of(const struct table *t, size_t offset)
{
    size_t line = 1;

    for (size_t i = 0; i < offset; i++)
        if (t->text[i] == '\n' || (t->text[i] == '\r' && t->text[i + 1] != '\n'))
            line++;
    return line;
}

/* One line, whatever bytes the file put into it. */
__attribute__((format(printf, 3, 0))) static void put_error(char *error, size_t size, const char *format,
                                                            va_list args)
{
    if (!size)
        return;
    vsnprintf(error, size, format, args);
    for (char *p = error; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
}

__attribute__((format(printf, 2, 3))) static void *fail(const struct table *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put_error(t->error, t->error_size, format, args);
    va_end(args);
    return NULL;
}

__attribute__((format(printf, 3, 4))) static void say(char *error, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put_error(error, size, format, args);
    va_end(args);
}

static void *no_memory(const struct table *t)
{
    return fail(t, "%s: not enough memory for this table", t->path);
}

static bool ends(char c)
{
    return c == '\n' || c == '\r' || c == '\0';
}

static bool blank(const struct table *t, char c)
{
    return c == ' ' || (c == '\t' && t->delim != '\t');
}

static const char *line_end(const char *p)
{
    if (p[0] == '\r' && p[1] == '\n')
        return p + 2;
    return *p ? p + 1 : p;
}

static const char *blank_lines(const struct table *t, const char *p)
{
    for (;;) {
        const char *q = p;
        while (blank(t, *q))
            q++;
        if (!ends(*q))
            return p;
        if (!*q)
            return q;
        p = line_end(q);
    }
}

static const char *wrong(struct field *f, const char *at, const char *why)
{
    f->at = at;
    f->wrong = why;
    return NULL;
}

static const char *quoted(const struct table *t, const char *open, struct field *f)
{
    const char *p = open + 1;

    f->p = p;
    f->doubled = false;
    while ((p = strchrnul(p, '"')), p[0] && p[1] == '"') {
        f->doubled = true;
        p += 2;
    }
    if (!*p)
        return wrong(f, open,
                     "a quote is opened here and never closed; close it, or double a quote inside a field");
    f->end = p++;
    while (blank(t, *p))
        p++;
    if (*p != t->delim && !ends(*p))
        return wrong(f, p, "text after a closing quote; double the quotes inside a field");
    return p;
}

/* Reads the field at p; returns its delimiter or line end, or NULL with f->wrong. */
static const char *field_scan(const struct table *t, const char *p, struct field *f)
{
    while (blank(t, *p))
        p++;
    if (*p == '"') {
        p = quoted(t, p, f);
        if (!p)
            return NULL;
    } else {
        f->p = p;
        f->doubled = false;
        while (*p != t->delim && !ends(*p))
            p++;
        f->end = p;
    }
    while (f->p < f->end && blank(t, *f->p))
        f->p++;
    while (f->p < f->end && blank(t, f->end[-1]))
        f->end--;
    return p;
}

static bool is(const struct field *f, const char *word)
{
    size_t n = strlen(word);

    return (size_t)(f->end - f->p) == n && !strncasecmp(f->p, word, n);
}

static bool missing(const struct field *f)
{
    switch (f->end - f->p) {
    case 0:
        return true;
    case 1:
        return *f->p == '?';
    case 2:
        return is(f, "na");
    case 3:
        return is(f, "n/a") || is(f, "nan");
    case 4:
        return is(f, "null");
    default:
        return false;
    }
}

/* NaN where missing; false if the field is a word. */
static bool number(const struct table *t, const struct field *f, double *value)
{
    struct field word = *f;

    *value = NAN;
    if (missing(f) || number_scan(f->p, t->locale, value) == f->end)
        return true;
    if (*word.p == '-' || *word.p == '+')
        word.p++;
    *value = *f->p == '-' ? -INFINITY : INFINITY;
    return is(&word, "inf") || is(&word, "infinity");
}

/* Unquotes into `to` (room for the content and a NUL); returns what follows the NUL. */
static char *unquote(const struct field *f, char *to)
{
    for (const char *p = f->p; p < f->end; p++) {
        *to++ = *p;
        if (f->doubled && *p == '"')
            p++;
    }
    *to++ = '\0';
    return to;
}

/* The whole file in memory, inflated if it begins as gzip does, NUL-terminated. */
static char *slurp(struct table *t, gzFile gz, size_t guess)
{
    size_t room = guess < 4096 ? 4096 : guess + 2, n = 0;
    char *bytes = malloc(room);

    while (bytes) {
        size_t want = room - n - 1 < 1u << 30 ? room - n - 1 : 1u << 30;
        int got = gzread(gz, bytes + n, (unsigned)want);
        if (got < 0)
            break;
        n += (size_t)got;
        if (!got) {
            bytes[n] = '\0';
            t->size = n;
            return bytes;
        }
        if (n + 1 < room)
            continue;
        char *more = room > SIZE_MAX / 2 ? NULL : realloc(bytes, room *= 2);
        if (!more)
            break;
        bytes = more;
    }
    free(bytes);
    return NULL;
}

static int load(struct table *t)
{
    struct stat st;
    gzFile gz = NULL;
    int code = Z_OK, status = -1, fd = open(t->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &st)) {
        fail(t, "%s: %s; check the path", t->path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        fail(t, "%s: not a file; give the path of a CSV file", t->path);
        goto out;
    }
    gz = gzdopen(fd, "rb");
    if (!gz) {
        no_memory(t);
        goto out;
    }
    fd = -1;
    gzbuffer(gz, 128 * 1024);
    t->text = slurp(t, gz, (size_t)st.st_size);
    const char *why = gzerror(gz, &code);
    if (code == Z_ERRNO)
        fail(t, "%s: cannot be read: %s", t->path, strerror(errno));
    else if (code != Z_OK && code != Z_STREAM_END) /* zlib's reason begins with "<fd:3>: " */
        fail(t, "%s: cannot be inflated: %s; is the gzip file whole?", t->path,
             strchr(why, ' ') ? strchr(why, ' ') + 1 : why);
    else if (!t->text)
        no_memory(t);
    else
        status = 0;
out:
    if (gz)
        gzclose(gz);
    if (fd >= 0)
        close(fd);
    return status;
}

/* The byte before which a table begins, once the text is known to be text; NULL with an error line otherwise.
 */
static const char *check_text(struct table *t)
{
    const char *p = t->text, *nul = memchr(p, '\0', t->size);

    if (nul)
        return fail(t, "%s:%zu: a NUL byte: this is not CSV text (UTF-16 is to be saved as UTF-8)", t->path,
                    line_of(t, (size_t)(nul - p)));
    if (!strncmp(p, "\xef\xbb\xbf", 3))
        p += 3;
    p += strspn(p, "\r\n");
    if (!*p)
        return fail(t, "%s:1: the file is empty; a table needs a header and rows", t->path);
    return p;
}

/* The one of , ; TAB that the first line has most of, outside quotes. */
static char guess_delim(const char *p)
{
    size_t comma = 0, semicolon = 0, tab = 0;

    for (bool inside = false; *p && (inside || !ends(*p)); p++) {
        inside ^= *p == '"';
        comma += !inside && *p == ',';
        semicolon += !inside && *p == ';';
        tab += !inside && *p == '\t';
    }
    if (tab > comma && tab > semicolon)
        return '\t';
    return semicolon > comma ? ';' : ',';
}

static void *bad_field(const struct table *t, const struct field *f)
{
    return fail(t, "%s:%zu: %s", t->path, line_of(t, (size_t)(f->at - t->text)), f->wrong);
}

/* Fields of the row at p; 0 with an error line if one of them is broken. */
static size_t count_fields(const struct table *t, const char *p)
{
    struct field f;
    size_t n = 1;

    while ((p = field_scan(t, p, &f)) && *p == t->delim) {
        p++;
        n++;
    }
    if (p)
        return n;
    bad_field(t, &f);
    return 0;
}

static bool is_header(const struct table *t, const char *p)
{
    struct field f;
    double value;

    for (size_t j = 0; j < t->cols; j++, p++) {
        p = field_scan(t, p, &f);
        if (!number(t, &f, &value))
            return true;
    }
    return false;
}

static char *column_name(const struct table *t, const struct field *f, size_t position)
{
    char *name = NULL;

    if (!t->header || f->p == f->end) {
        if (asprintf(&name, "%zu", position) < 0)
            return NULL;
        return name;
    }
    name = malloc((size_t)(f->end - f->p) + 1);
    if (name)
        unquote(f, name);
    return name;
}

static int order_names(const void *a, const void *b, void *table)
{
    const struct table *t = table;

    return strcmp(t->columns[*(const size_t *)a].name, t->columns[*(const size_t *)b].name);
}

/* `seq 1 2 3` in one column is a file with blanks between its numbers, which would read as one useless text
 * column. */
static bool blank_separated(const struct table *t, const struct field *f)
{
    size_t n = 0;
    double value;

    for (const char *p = f->p; p < f->end; n++) {
        p = number_scan(p, t->locale, &value);
        if (!p || (p < f->end && !blank(t, *p)))
            return false;
        while (p < f->end && blank(t, *p))
            p++;
    }
    return n > 1;
}

/* Columns from the first row at p; returns where the data begin, or NULL with an error line. */
static const char *read_header(struct table *t, const char *p)
{
    size_t line = line_of(t, (size_t)(p - t->text));
    const char *start = p;
    struct field f = {0};

    t->cols = count_fields(t, p);
    if (!t->cols)
        return NULL;
    if (t->cols > INT_MAX)
        return fail(t, "%s:%zu: %zu columns are too many", t->path, line, t->cols);
    t->header = is_header(t, p);
    t->columns = calloc(t->cols, sizeof *t->columns);
    t->by_name = calloc(t->cols, sizeof *t->by_name);
    if (!t->columns || !t->by_name)
        return no_memory(t);
    for (size_t j = 0; j < t->cols; j++) {
        p = field_scan(t, j ? p + 1 : p, &f);
        t->columns[j].odd = SIZE_MAX;
        t->columns[j].name = column_name(t, &f, j);
        t->by_name[j] = j;
        if (!t->columns[j].name)
            return no_memory(t);
    }
    if (t->cols == 1 && blank_separated(t, &f))
        return fail(t, "%s:%zu: numbers separated by blanks; separate them by commas", t->path, line);
    qsort_r(t->by_name, t->cols, sizeof *t->by_name, order_names, t);
    for (size_t j = 1; j < t->cols; j++)
        if (!order_names(&t->by_name[j - 1], &t->by_name[j], t))
            return fail(
                t, "%s:%zu: two columns are named \"%.60s\"; rename one, or write a header if this is a row",
                t->path, line, t->columns[t->by_name[j]].name);
    return t->header ? line_end(p) : start;
}

static int resize(struct table *t, size_t room)
{
    for (size_t j = 0; j < t->cols && !t->words; j++) {
        struct column *c = &t->columns[j];
        void *old = c->offsets ? (void *)c->offsets : (void *)c->numbers;
        void *more = reallocarray(old, room, 8);
        if (!more)
            return -1;
        if (c->offsets)
            c->offsets = more;
        else
            c->numbers = more;
    }
    size_t *marks = reallocarray(t->marks, room / MARK + 1, sizeof *marks);
    if (!marks)
        return -1;
    t->marks = marks;
    t->room = room;
    return 0;
}

/* From this row on the column keeps offsets; those of the rows before are filled in by backfill(). */
static int become_text(const struct table *t, struct column *c, size_t row)
{
    c->offsets = reallocarray(NULL, t->room, sizeof *c->offsets);
    if (!c->offsets)
        return -1;
    free(c->numbers);
    c->numbers = NULL;
    c->odd = row;
    return 0;
}

/* Keeps one cell; returns its delimiter or line end, or NULL with f->wrong (for lack of memory: without). */
static const char *read_cell(const struct table *t, struct column *c, size_t row, const char *p,
                             struct field *f)
{
    const char *end = NULL;
    double value;

    if (c->numbers) {
        end = number_scan(p, t->locale, &value);
        if (!end || (*end != t->delim && !ends(*end))) {
            end = field_scan(t, p, f);
            if (!end)
                return NULL;
            if (!number(t, f, &value) && become_text(t, c, row))
                return NULL;
        }
    } else {
        end = field_scan(t, p, f);
    }
    if (c->offsets)
        c->offsets[row] = (size_t)(p - t->text);
    else if (c->numbers) {
        c->numbers[row] = value;
        if (fabs(value) > DBL_MAX && row < c->odd)
            c->odd = row;
    }
    return end;
}

static const char *ragged(const struct table *t, const char *row)
{
    size_t line = line_of(t, (size_t)(row - t->text)), n = count_fields(t, row);

    if (!n)
        return NULL;
    return fail(t,
                "%s:%zu: %zu field%s, the %s has %zu: quote the fields that contain '%s', or mend the line",
                t->path, line, n, n == 1 ? "" : "s", t->header ? "header" : "first row", t->cols,
                t->delim == '\t' ? "TAB" : (char[2]){t->delim, 0});
}

static const char *read_row(struct table *t, const char *row)
{
    const char *p = row;
    struct field f = {0};

    for (size_t j = 0; j < t->cols; j++) {
        if (j && *p++ != t->delim)
            return ragged(t, row);
        p = read_cell(t, &t->columns[j], t->rows, p, &f);
        if (!p)
            return f.wrong ? bad_field(t, &f) : no_memory(t);
    }
    if (!ends(*p))
        return ragged(t, row);
    if (t->rows % MARK == 0)
        t->marks[t->rows / MARK] = (size_t)(row - t->text);
    t->rows++;
    return line_end(p);
}

static int read_rows(struct table *t, const char *p)
{
    for (;;) {
        const char *row = blank_lines(t, p);
        if (!*row)
            break;
        if (row != p && t->cols == 1) {
            fail(t, "%s:%zu: a blank line between rows; write NA for a missing value", t->path,
                 line_of(t, (size_t)(p - t->text)));
            return -1;
        }
        if (t->rows == t->room && (t->room > SIZE_MAX / 32 || resize(t, t->room ? 2 * t->room : 64))) {
            no_memory(t);
            return -1;
        }
        p = read_row(t, row);
        if (!p)
            return -1;
    }
    if (!t->rows) {
        fail(t, "%s:%zu: a header and no rows", t->path, line_of(t, (size_t)(p - t->text)));
        return -1;
    }
    return resize(t, t->rows);
}

static const char *skip_row(const struct table *t, const char *p)
{
    struct field f;

    while (*(p = field_scan(t, p, &f)) == t->delim)
        p++;
    return blank_lines(t, line_end(p));
}

/* Columns that met their first word late lack the offsets of the rows before: one more pass gives them to all
 * at once. */
static void backfill(struct table *t)
{
    const char *p = t->text + t->marks[0];
    size_t last = 0;
    struct field f;

    for (size_t j = 0; j < t->cols; j++)
        if (t->columns[j].offsets && t->columns[j].odd > last)
            last = t->columns[j].odd;
    for (size_t row = 0; row < last; row++, p = blank_lines(t, line_end(p)))
        for (size_t j = 0; j < t->cols; j++) {
            struct column *c = &t->columns[j];
            p += j > 0;
            if (c->offsets && row < c->odd)
                c->offsets[row] = (size_t)(p - t->text);
            p = field_scan(t, p, &f);
        }
}

static const char *row_start(const struct table *t, size_t row)
{
    if (row == t->next_row && t->next)
        return t->text + t->next;
    const char *p = t->text + t->marks[row / MARK];
    for (size_t i = row / MARK * MARK; i < row; i++)
        p = skip_row(t, p);
    return p;
}

static struct table *open_table(const char *path, bool words, char *error, size_t size)
{
    struct table *t = calloc(1, sizeof *t);
    const char *p;

    if (!t) {
        say(error, size, "%s: not enough memory for this table", path);
        return NULL;
    }
    t->words = words;
    t->error = error;
    t->error_size = size;
    t->path = strdup(path);
    t->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!t->path || !t->locale) {
        say(error, size, "%s: not enough memory for this table", path);
        goto bad;
    }
    if (load(t) || !(p = check_text(t)))
        goto bad;
    t->delim = guess_delim(p);
    p = read_header(t, p);
    if (!p || read_rows(t, p))
        goto bad;
    backfill(t);
    t->error = NULL;
    return t;
bad:
    table_free(t);
    return NULL;
}

struct table *table_open(const char *path, char *error, size_t size)
{
    return open_table(path, false, error, size);
}

struct table *table_open_words(const char *path, char *error, size_t size)
{
    return open_table(path, true, error, size);
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t j = 0; t->columns && j < t->cols; j++) {
        free(t->columns[j].name);
        free(t->columns[j].numbers);
        free(t->columns[j].offsets);
        free(t->columns[j].text);
    }
    for (struct chunk *c = t->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    if (t->locale)
        freelocale(t->locale);
    free(t->columns);
    free(t->by_name);
    free(t->marks);
    free(t->record);
    free(t->record_text);
    free(t->text);
    free(t->path);
    free(t);
}

size_t table_rows(const struct table *t)
{
    return t->rows;
}

size_t table_cols(const struct table *t)
{
    return t->cols;
}

const char *table_name(const struct table *t, size_t col)
{
    return t->columns[col].name;
}

int table_find(const struct table *t, const char *name)
{
    size_t low = 0, high = t->cols;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, t->columns[t->by_name[middle]].name);
        if (!order)
            return (int)t->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

bool table_numeric(const struct table *t, size_t col)
{
    return t->columns[col].numbers != NULL;
}

const double *table_numbers(const struct table *t, size_t col, char *error, size_t size)
{
    const struct column *c = &t->columns[col];

    if (c->odd == SIZE_MAX)
        return c->numbers;
    const char *p = row_start(t, c->odd);
    struct field f;
    for (size_t j = 0; j <= col; j++)
        p = field_scan(t, j ? p + 1 : p, &f);
    int n = f.end - f.p > 40 ? 40 : (int)(f.end - f.p);
    say(error, size, "%s:%zu: column \"%.60s\": %.*s is not a %snumber; mend it, or leave the cell empty",
        t->path, line_of(t, (size_t)(f.p - t->text)), c->name, n, f.p, c->numbers ? "finite " : "");
    return NULL;
}

/* Memory for a cell's text that lasts as long as the table. */
static char *chunk_take(struct table *t, size_t n)
{
    if (!t->chunks || t->chunks->left < n) {
        size_t size = n > CHUNK ? n : CHUNK;
        struct chunk *c = malloc(sizeof *c + size);
        if (!c)
            return NULL;
        *c = (struct chunk){.next = t->chunks, .left = size, .free = c->bytes};
        t->chunks = c;
    }
    char *p = t->chunks->free;
    t->chunks->free += n;
    t->chunks->left -= n;
    return p;
}

static const char *cell_text(struct table *t, const struct field *f)
{
    if (missing(f))
        return "";
    char *to = chunk_take(t, (size_t)(f->end - f->p) + 1);
    if (to)
        unquote(f, to);
    return to;
}

static int make_text(struct table *t, size_t col)
{
    struct column *c = &t->columns[col];
    const char *p = t->text + t->marks[0], **text = calloc(t->rows, sizeof *text);
    struct field f;

    if (!text)
        return -1;
    for (size_t i = 0; i < t->rows; i++) {
        const char *q = p;
        if (c->offsets)
            field_scan(t, t->text + c->offsets[i], &f);
        else
            for (size_t j = 0; j <= col; j++)
                q = field_scan(t, j ? q + 1 : q, &f);
        text[i] = cell_text(t, &f);
        if (!text[i]) {
            free(text);
            return -1;
        }
        if (!c->offsets)
            p = skip_row(t, *q == t->delim ? q + 1 : q);
    }
    c->text = text;
    return 0;
}

const char *table_text(struct table *t, size_t row, size_t col)
{
    if (!t->columns[col].text && make_text(t, col))
        return NULL;
    return t->columns[col].text[row];
}

const char *const *table_record(struct table *t, size_t row)
{
    const char *p = row_start(t, row), *next = skip_row(t, p);
    size_t room = (size_t)(next - p) + 2 * t->cols;
    struct field f;

    if (!t->record && !(t->record = calloc(t->cols, sizeof *t->record)))
        return NULL;
    if (room > t->record_room) {
        char *more = realloc(t->record_text, room);
        if (!more)
            return NULL;
        t->record_text = more;
        t->record_room = room;
    }
    char *to = t->record_text;
    for (size_t j = 0; j < t->cols; j++) {
        p = field_scan(t, j ? p + 1 : p, &f);
        t->record[j] = missing(&f) ? "" : to;
        if (!missing(&f))
            to = unquote(&f, to);
    }
    t->next_row = row + 1;
    t->next = (size_t)(next - t->text);
    return t->record;
}

size_t table_line(const struct table *t, size_t row)
{
    return line_of(t, (size_t)(row_start(t, row) - t->text));
}
