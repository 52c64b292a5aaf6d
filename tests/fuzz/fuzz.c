#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/child.h"
#include "common/digest.h"
#include "common/log.h"

jmp_buf fuzz_died;
const char *fuzz_may_die;
const char *const fuzz_ids[FUZZ_IDS] = {"p1", "p2", "p3", "p4", "p5", "p6"};

void fuzz_found(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

void fuzz_touch(const void *bytes, size_t n)
{
    const volatile uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++)
        (void)p[i];
}

static int file = -1;

int fuzz_file(const void *bytes, size_t size)
{
    if (file < 0)
        file = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(file >= 0 && !ftruncate(file, 0) && pwrite(file, bytes, size, 0) == (ssize_t)size &&
         lseek(file, 0, SEEK_SET) == 0);
    return file;
}

const char *fuzz_path(void)
{
    static char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return path;
}

/* ---- in the place of common/log.c: lines are made, so that their arguments are read, and shown to nobody
 * ---- */

static char line[1024];

__attribute__((format(printf, 1, 0))) static void write_line(const char *format, va_list ap)
{
    vsnprintf(line, sizeof line, format, ap);
}

void log_open(const char *program, const char *organization)
{
    (void)program;
    (void)organization;
}

void log_info(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
}

void log_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
}

void log_limited(unsigned kind, const char *format, ...)
{
    va_list ap;
    MUST(kind < LOG_KINDS);
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
}

void log_die(int status, const char *format, ...)
{
    va_list ap;
    MUST(status == 1 || status == 2);
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
    if (fuzz_may_die && !strncmp(line, fuzz_may_die, strlen(fuzz_may_die)))
        longjmp(fuzz_died, 1);
    fuzz_found(line, "log_die", status);
}

/* ---- scripts ---- */

bool script_next(struct script *s, struct operation *o)
{
    if (s->end - s->p < 3)
        return false;
    size_t len = (size_t)(s->p[1] | s->p[2] << 8), left = (size_t)(s->end - s->p) - 3;
    *o = (struct operation){s->p[0], s->p + 3, s->p + 3 + (len < left ? len : left)};
    s->p = o->end;
    return true;
}

uint8_t take_u8(struct operation *o)
{
    return o->p < o->end ? *o->p++ : 0;
}

uint32_t take_u32(struct operation *o)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)take_u8(o) << 8 * i;
    return v;
}

void fuzz_run(uint8_t n, uint8_t run[static RUN_BYTES])
{
    memset(run, n, RUN_BYTES);
}

bool operation_is_message(const struct operation *o)
{
    return *msg_name(o->code) != '?';
}

/* u8 rows, u8 cols, u8 flags (dtype, resume, again, many rows), u8 eighths of the chunk above the least. */
static void take_array(struct operation *o, struct shape *s)
{
    s->rows = take_u8(o);
    s->cols = take_u8(o);
    uint8_t flags = take_u8(o);
    s->dtype = flags & 3;
    s->resume = flags & 4;
    s->again = flags & 8;
    s->rows *= flags & 16 ? 1024 : 1;
    s->chunk = CHUNK_MIN + 8u * take_u8(o);
}

/* u8 FIT rows, answer rows, outputs, rounds, common rows, flags (dtype f64, ids, wrong ids, rows that do not
 * add up). */
static void take_task(struct operation *o, struct msg *m)
{
    m->u.task.fit_rows = take_u8(o);
    m->u.task.answer_rows = take_u8(o);
    m->u.task.outputs = take_u8(o);
    m->u.task.rounds = take_u8(o);
    m->u.task.common_rows = take_u8(o);
    uint8_t flags = take_u8(o);
    m->u.task.dtype = flags & 1 ? 2 : 1;
    m->u.task.has_ids = flags & 2;
    memset(m->u.task.trace_key, 'k', DIGEST_BYTES);
    digest_ids(m->u.task.trace_key, fuzz_ids, flags & 4 ? FUZZ_IDS - 1 : FUZZ_IDS, m->u.task.ids);
    m->array = (struct shape){
        m->u.task.fit_rows + m->u.task.answer_rows + (flags & 8), 1, 3, CHUNK_MIN, flags & 16, flags & 32};
    snprintf(m->u.task.name, MSG_NAME, "main");
}

static void take_text(struct operation *o, char *to, size_t size)
{
    size_t n = 0;
    for (uint8_t c; n + 1 < size && (c = take_u8(o)); n++)
        to[n] = (char)c;
    to[n] = 0;
}

static void take_predict(struct operation *o, struct msg *m)
{
    static double coefficients[256];
    m->array = (struct shape){take_u8(o), 1, 3, CHUNK_MIN, false, false};
    uint8_t flags = take_u8(o);
    m->array.resume = flags & 4;
    m->array.again = flags & 8;
    m->u.predict.rounds = take_u8(o);
    m->u.predict.n_coefficients = flags & 1 ? m->u.predict.rounds : 0;
    m->u.predict.coefficients = coefficients;
    for (uint32_t i = 0; i < m->u.predict.n_coefficients; i++)
        coefficients[i] = take_u8(o) / 16.0;
}

static void take_words(struct operation *o, struct msg *m)
{
    switch (m->kind) {
    case MSG_HELLO:
    case MSG_WELCOME:
        m->u.hello.version = take_u8(o);
        m->u.hello.instance = m->kind == MSG_HELLO ? take_u8(o) : 0;
        take_text(o, m->u.hello.program, MSG_NAME);
        break;
    case MSG_REFUSE:
        m->u.refuse.rows = take_u8(o);
        take_text(o, m->u.refuse.code, MSG_NAME);
        take_text(o, m->u.refuse.text, MSG_TEXT);
        break;
    case MSG_ERROR:
        take_text(o, m->u.refuse.code, MSG_NAME);
        take_text(o, m->u.refuse.text, MSG_TEXT);
        break;
    case MSG_BYE:
        take_text(o, m->u.refuse.text, MSG_TEXT);
        break;
    default:
        break;
    }
}

static void take_numbers(struct operation *o, struct msg *m)
{
    switch (m->kind) {
    case MSG_ACCEPT:
        m->u.accept.deterministic = take_u8(o) & 1;
        m->u.accept.linear = take_u8(o) & 1;
        break;
    case MSG_ALIGN:
        m->u.align.prefix = take_u8(o);
        break;
    case MSG_ALIGNED:
        m->u.aligned.equal = take_u8(o) & 1;
        m->u.aligned.rows = take_u8(o);
        break;
    case MSG_SETTLE:
        m->u.settle.settled = take_u8(o) & 1;
        break;
    case MSG_ACK:
        m->u.ack.kind = take_u8(o);
        m->u.ack.next = take_u8(o);
        break;
    case MSG_PEER:
        m->u.peer.state = take_u8(o);
        m->u.peer.bytes_in = m->u.peer.bytes_out = take_u32(o);
        break;
    default:
        take_words(o, m);
    }
}

void take_msg(struct operation *o, struct msg *m, uint8_t *peer)
{
    uint8_t who = take_u8(o);
    *m = (struct msg){.kind = (enum msg_kind)o->code, .has_run = who & 15, .round = take_u8(o)};
    *peer = who >> 4;
    if (m->has_run)
        fuzz_run(who & 15, m->run);
    if (m->kind == MSG_TASK)
        take_task(o, m);
    else if (m->kind == MSG_PREDICT)
        take_predict(o, m);
    else if (msg_is_transfer(m->kind))
        take_array(o, &m->array);
    else
        take_numbers(o, m);
}

void fuzz_check_sent(const struct msg *m, const void *payload, size_t len)
{
    static uint8_t header[MSG_MAX_HEADER];
    struct msg back;
    size_t n = msg_pack(m, header);
    MUST(n > 0);
    const char *bad = msg_unpack(header, n, &back);
    if (bad)
        fuzz_found(bad, msg_name(m->kind), 0);
    MUST(back.kind == m->kind && back.round == m->round);
    fuzz_touch(payload, len);
}
