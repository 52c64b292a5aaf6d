#include "common/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/child.h"
#include "common/control.h"
#include "common/filter.h"
#include "common/log.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- starting ---- */

/* The programs stand beside this one, or in ../libexec/gal. */
static int find_programs(struct supervisor *s)
{
    char self[PATH_MAX] = "", probe[2 * PATH_MAX];
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return -1;
    const char *dir = dirname(self);
    static const char *const places[] = {"", "/../libexec/gal"};
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(s->programs, sizeof s->programs, "%s%s", dir, places[i]);
        snprintf(probe, sizeof probe, "%s/gal-link", s->programs);
        if (n < (int)sizeof s->programs && access(probe, X_OK) == 0)
            return 0;
    }
    log_error("gal-link is neither in %s nor in ../libexec/gal: install the programs together", dir);
    return -1;
}

static int make_state(const struct supervisor *s)
{
    static const char *const parts[] = {"", "/link", "/core", "/worker"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s%s", s->state, parts[i]) >= (int)sizeof path)
            return -1;
        if (mkdir(path, 0700) < 0 && errno != EEXIST) {
            log_error("%s: %s: the state directory cannot be made", path, strerror(errno));
            return -1;
        }
    }
    return 0;
}

/* Descriptors that a child gets, by number; −1: none. */
struct wiring {
    int fd[CHILD_TRACE + 1];
};

enum { KEY_FLAGS = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK }; /* a FIFO is refused, not waited for */

static int open_for_link(const struct supervisor *s, struct wiring *w)
{
    char trace[PATH_MAX];
    const char *key = conf_text(&s->conf, "organization", "", "key", "");
    w->fd[CHILD_KEY] = open(key, KEY_FLAGS);
    if (w->fd[CHILD_KEY] < 0) {
        log_error("%s: %s: make a key with gal keygen", key,
                  errno == ELOOP ? "is a symbolic link" : strerror(errno));
        return -1;
    }
    if (snprintf(trace, sizeof trace, "%s/../trace.jsonl", s->state) >= (int)sizeof trace)
        return -1;
    w->fd[CHILD_TRACE] = open(trace, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (w->fd[CHILD_TRACE] < 0)
        log_error("%s: %s", trace, strerror(errno));
    return w->fd[CHILD_TRACE] < 0 ? -1 : 0;
}

/* In the new process: descriptors to their places, then the program. Only calls that are safe after fork. */
static _Noreturn void become(const struct supervisor *s, const struct supervised *c, const struct wiring *w,
                             pid_t parent)
{
    int high[CHILD_TRACE + 1];
    for (int i = CHILD_CONTROL; i <= CHILD_TRACE; i++)
        high[i] = w->fd[i] < 0 ? -1 : fcntl(w->fd[i], F_DUPFD, 64);
    for (int i = CHILD_CONTROL; i <= CHILD_TRACE; i++)
        if (high[i] < 0)
            close(i);
        else
            dup2(high[i], i);
    close_range(CHILD_TRACE + 1, ~0U, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (getppid() == parent) {
        char path[2 * PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", s->programs, c->program);
        execl(path, c->program, s->name, (char *)NULL);
    }
    _exit(127);
}

static int send_conf(const struct supervisor *s, const struct supervised *c)
{
    size_t size, filter_len = 0;
    uint8_t *bytes = conf_pack(&s->conf, conf_for, c->process, &size);
    bool off = !strcmp(conf_text(&s->conf, "sandbox", "", "mode", "require"), "off");
    uint8_t *filter = off ? NULL : filter_build(c->process == CONF_LINK, &filter_len);
    struct frame f = {.kind = CONTROL_CONF,
                      .header = filter,
                      .header_len =
                          filter ? (uint32_t)filter_len : 0, /* without one the child says what is missing */
                      .payload = bytes,
                      .payload_len = (uint32_t)size};
    int bad = !bytes || pipe_send(c->control, &f) < 0;
    free(bytes);
    free(filter);
    return bad ? -1 : 0;
}

static int spawn(struct supervisor *s, struct supervised *c, struct wiring w)
{
    int pair[2];
    pid_t parent = getpid();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    w.fd[CHILD_CONTROL] = pair[1];
    c->control = pipe_new(pair[0], false);
    c->pid = c->control ? fork() : -1;
    if (c->pid == 0)
        become(s, c, &w, parent);
    close(pair[1]);
    if (c->pid < 0) {
        c->pid = 0;
        return -1;
    }
    return send_conf(s, c);
}

/* All children of the role, wired: link–core (or link–worker), and a sponsor's link–worker. */
static int start_children(struct supervisor *s)
{
    struct wiring w[SUPERVISE_CHILDREN];
    int main_pair[2] = {-1, -1}, local_pair[2] = {-1, -1}, bad = -1;
    bool sponsor = s->role == CONF_SPONSOR;
    memset(w, -1, sizeof w);
    s->started = now();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, main_pair) < 0 ||
        (sponsor && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, local_pair) < 0) ||
        open_for_link(s, &w[SUPERVISE_LINK]) < 0)
        goto out;
    w[SUPERVISE_LINK].fd[CHILD_PIPE] = main_pair[0];
    w[sponsor ? SUPERVISE_CORE : SUPERVISE_WORKER].fd[CHILD_PIPE] = main_pair[1];
    if (sponsor && s->child[SUPERVISE_WORKER].program) {
        w[SUPERVISE_LINK].fd[CHILD_LOCAL] = local_pair[0];
        w[SUPERVISE_WORKER].fd[CHILD_PIPE] = local_pair[1];
    }
    bad = 0;
    for (size_t i = 0; i < SUPERVISE_CHILDREN && !bad; i++)
        if (s->child[i].program)
            bad = spawn(s, &s->child[i], w[i]);
out:
    for (size_t i = 0; i < 2; i++) {
        if (main_pair[i] >= 0)
            close(main_pair[i]);
        if (local_pair[i] >= 0)
            close(local_pair[i]);
    }
    if (w[SUPERVISE_LINK].fd[CHILD_KEY] >= 0)
        close(w[SUPERVISE_LINK].fd[CHILD_KEY]);
    if (w[SUPERVISE_LINK].fd[CHILD_TRACE] >= 0)
        close(w[SUPERVISE_LINK].fd[CHILD_TRACE]);
    return bad;
}

/* SIGHUP: keys are read again, ours and the others'; a file that cannot be used changes nothing. */
static void reload(struct supervisor *s)
{
    struct supervised *link = &s->child[SUPERVISE_LINK];
    char error[1024];
    struct conf fresh;
    size_t size;
    if (conf_read(s->conf.file, s->role, &fresh, error, sizeof error) < 0) {
        log_error("%s: nothing is changed", error);
        return;
    }
    const char *path = conf_text(&fresh, "organization", "", "key", "");
    int key = open(path, KEY_FLAGS);
    uint8_t *bytes = conf_pack(&fresh, conf_for, link->process, &size);
    struct frame f = {.kind = CONTROL_RELOAD, .payload = bytes, .payload_len = (uint32_t)size};
    if (key < 0)
        log_error("%s: %s: nothing is changed", path,
                  errno == ELOOP ? "is a symbolic link" : strerror(errno));
    else if (!bytes || !link->pid || pipe_queued(link->control) || pipe_send_fd(link->control, &f, key) < 0)
        log_error("the link is busy or being started: send SIGHUP again");
    else
        log_info("keys are read again; other changes of the configuration wait for a restart");
    if (key >= 0)
        close(key);
    free(bytes);
    conf_free(&fresh);
}

/* ---- ending ---- */

static void forget(struct supervised *c)
{
    pipe_free(c->control);
    free(c->status);
    c->control = NULL;
    c->status = NULL;
    c->pid = 0;
}

/* Ends all children: the link may say goodbye (250 ms), the rest hold nothing that SQLite does not. */
static void stop_children(struct supervisor *s)
{
    struct supervised *link = &s->child[SUPERVISE_LINK];
    struct frame stop = {.kind = CONTROL_STOP};
    bool told = link->pid && pipe_send(link->control, &stop) == 0;
    for (int i = 0; i < 50 && told && link->pid; i++)
        if (waitpid(link->pid, NULL, WNOHANG) == link->pid)
            link->pid = 0;
        else
            poll(NULL, 0, 5);
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++)
        if (s->child[i].pid)
            kill(s->child[i].pid, SIGKILL);
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++) {
        if (s->child[i].pid)
            waitpid(s->child[i].pid, NULL, 0);
        forget(&s->child[i]);
    }
}

static const char *how(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(text, size, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, size, "ended with status %d", WEXITSTATUS(status));
    return text;
}

/* −1: nothing ended, or all was started again; else the daemon's exit status. */
static int reap(struct supervisor *s, struct control *control)
{
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++) {
        struct supervised *c = &s->child[i];
        int status;
        char text[128];
        if (!c->pid || waitpid(c->pid, &status, WNOHANG) != c->pid)
            continue;
        c->pid = 0;
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        stop_children(s);
        control_lost(control);
        if (code == 1 || code == 2)
            return code; /* it said why */
        if (code == 127) {
            log_error("%s/%s cannot be executed: %s", s->programs, c->program, strerror(ENOENT));
            return 1;
        }
        s->back_off = now() - s->started > 60 ? 0.1 : s->back_off < 15 ? 2 * s->back_off : 30;
        s->restarts++;
        log_error(
            "%s %s: starting %s again in %.1f s (restart %u)", c->program, how(status, text, sizeof text),
            s->role == CONF_SPONSOR ? "link, core and worker" : "link and worker", s->back_off, s->restarts);
        s->started = now() + s->back_off; /* when to start: see run */
        return -1;
    }
    return -1;
}

/* ---- the loop ---- */

static void from_children(struct supervisor *s, struct control *control)
{
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++) {
        struct supervised *c = &s->child[i];
        struct frame f;
        while (c->control && pipe_recv(c->control, &f) == 1) {
            if (f.kind == CONTROL_STATUS) {
                free(c->status);
                c->status = strndup((const char *)f.payload, f.payload_len);
            } else {
                control_from_child(control, &f);
            }
        }
        if (c->control)
            pipe_flush(c->control);
    }
}

static bool running(const struct supervisor *s)
{
    for (size_t i = 0; i < SUPERVISE_CHILDREN; i++)
        if (s->child[i].pid)
            return true;
    return false;
}

static int run(struct supervisor *s, struct control *control)
{
    for (;;) {
        struct pollfd fds[1 + SUPERVISE_CHILDREN + 64];
        size_t n = 0;
        fds[n++] = (struct pollfd){.fd = s->signals, .events = POLLIN};
        for (size_t i = 0; i < SUPERVISE_CHILDREN; i++) {
            struct pipe *p = s->child[i].control;
            if (p)
                fds[n++] = (struct pollfd){.fd = pipe_fd(p),
                                           .events = (short)(POLLIN | (pipe_queued(p) ? POLLOUT : 0))};
        }
        size_t children = n;
        n += control_poll(control, fds + n, sizeof fds / sizeof *fds - n);
        double wait = running(s) ? -1 : s->started - now();
        int timeout = running(s) ? -1 : wait > 0 ? (int)(1000 * wait) + 1 : 0;
        if (poll(fds, n, timeout) < 0 && errno != EINTR)
            return 1;
        struct signalfd_siginfo sig;
        while (read(s->signals, &sig, sizeof sig) == sizeof sig)
            if (sig.ssi_signo == SIGHUP) {
                reload(s);
            } else if (sig.ssi_signo != SIGCHLD) {
                log_info("stopping");
                return 0;
            }
        from_children(s, control);
        control_handle(control, fds + children, n - children);
        int code = reap(s, control);
        if (code >= 0)
            return code;
        if (!running(s) && now() >= s->started && start_children(s) < 0)
            return 1;
    }
}

static void take_signals(struct supervisor *s)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
}

/* Several daemons share a host: one thread each unless the owner says otherwise, and none that spins (a
 * factor of 240). */
static void set_threads(void)
{
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* and no thread before the sandbox */
    setenv("OMP_NUM_THREADS", "1", 0);
    setenv("OMP_WAIT_POLICY", "passive", 0);
}

/* Where a path leads, or, if nothing is there yet, where the nearest directory above it does. */
static void lead(const char *path, char real[static PATH_MAX + 1])
{
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    while (!realpath(above, real)) {
        char *slash = strrchr(above, '/');
        if (!slash || slash == above) {
            strcpy(real, "/");
            return;
        }
        *slash = 0;
    }
}

/* A link may read /etc and the system's libraries: nothing of ours may lie there. Asked before anything is
 * made. */
static const char *misplaced(const struct supervisor *s)
{
    static const char *const where[][2] = {{"data", "path"}, {"labels", "path"}, {"organization", "state"}};
    static const char *const open_to_link[] = {"/etc/", "/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"};
    static char text[PATH_MAX + 200], real[PATH_MAX + 1];
    for (size_t i = 0; i < sizeof where / sizeof *where; i++) {
        const struct conf_item *item = conf_find(&s->conf, where[i][0], "", where[i][1]);
        if (!item)
            continue;
        lead(item->value, real);
        strcat(real, "/");
        for (size_t j = 0; j < sizeof open_to_link / sizeof *open_to_link; j++)
            if (!strncmp(real, open_to_link[j], strlen(open_to_link[j]))) {
                snprintf(text, sizeof text, "%s:%u: %s = %s lies below %s, which gal-link can read: move it",
                         s->conf.file, item->line, item->key, item->value, open_to_link[j]);
                return text;
            }
    }
    return NULL;
}

static void choose_children(struct supervisor *s)
{
    bool sponsor = s->role == CONF_SPONSOR;
    s->child[SUPERVISE_LINK] = (struct supervised){.program = "gal-link", .process = CONF_LINK};
    if (sponsor)
        s->child[SUPERVISE_CORE] = (struct supervised){.program = "gal-core", .process = CONF_CORE};
    if (!sponsor || conf_find(&s->conf, "data", "", "path"))
        s->child[SUPERVISE_WORKER] = (struct supervised){.program = "gal-worker", .process = CONF_WORKER};
}

int supervise_main(int argc, char **argv, enum conf_role role)
{
    const char *program = role == CONF_SPONSOR ? "gal-sponsor" : "gal-assistor";
    static struct supervisor s;
    char error[1024];
    log_open(program, "");
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        printf("%s 0.1.0\n", program);
        return 0;
    }
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s CONFIG    (an INI file; see docs/TUTORIAL.md)\n", program);
        return 2;
    }
    s.role = role;
    s.back_off = 0.05;
    if (conf_read(argv[1], role, &s.conf, error, sizeof error) < 0)
        log_die(2, "%s", error);
    s.name = conf_text(&s.conf, "organization", "", "name", "");
    s.state = conf_text(&s.conf, "organization", "", "state", "");
    log_open(program, s.name);
    umask(077);
    set_threads();
    take_signals(&s);
    choose_children(&s);
    const char *bad = misplaced(&s);
    if (bad)
        log_die(2, "%s", bad);
    if (find_programs(&s) < 0 || make_state(&s) < 0)
        return 2;
    struct control *control = control_open(&s);
    int code = !control ? 2 : start_children(&s) < 0 ? 1 : run(&s, control);
    stop_children(&s);
    control_close(control);
    conf_free(&s.conf);
    return code;
}
