#include "common/filter.h"

#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FCHMODAT2 = 452 }; /* unknown to libseccomp 2.5; the same number on every architecture */

/* To no process of ours: running programs, reaching into others, leaving the present namespaces, the
 * interface that does all of it without system calls, and opening files to others: Landlock knows no right on
 * a file's mode or owner. */
static const int nobody[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(kcmp),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(chown),
    SCMP_SYS(fchown),
    SCMP_SYS(lchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(setxattr),
    SCMP_SYS(lsetxattr),
    SCMP_SYS(fsetxattr),
    FCHMODAT2,
};

/* To no process with private data. Their pipes to link and supervisor are sockets that exist already. */
static const int private[] = {
    SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(connect), SCMP_SYS(bind),
    SCMP_SYS(listen), SCMP_SYS(accept),     SCMP_SYS(accept4),
};

/* A link may have IP sockets, and netlink by which the resolver asks for the host's addresses; no other
 * family, so none that reaches a process of this host by a file. */
static int no_socket(scmp_filter_ctx f, enum scmp_compare op, unsigned family)
{
    const struct scmp_arg_cmp first = {.arg = 0, .op = op, .datum_a = family, .datum_b = 0};
    return seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1, &first);
}

static int only_ip(scmp_filter_ctx f)
{
    int bad = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socketpair), 0);
    bad |= no_socket(f, SCMP_CMP_LT, AF_INET);
    for (unsigned family = AF_INET + 1; family < AF_NETLINK; family++)
        if (family != AF_INET6)
            bad |= no_socket(f, SCMP_CMP_EQ, family);
    return bad | no_socket(f, SCMP_CMP_GT, AF_NETLINK);
}

static int deny(scmp_filter_ctx f, const int *calls, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
    return bad;
}

/* libseccomp 2.5 writes the program to a descriptor. */
static uint8_t *export(scmp_filter_ctx f, size_t *size)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    struct stat st;
    uint8_t *bytes = NULL;
    if (fd >= 0 && seccomp_export_bpf(f, fd) == 0 && fstat(fd, &st) == 0 &&
        (bytes = malloc((size_t)st.st_size))) {
        *size = (size_t)st.st_size;
        if (pread(fd, bytes, *size, 0) != st.st_size) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (fd >= 0)
        close(fd);
    return bytes;
}

uint8_t *filter_build(bool network, size_t *size)
{
    uint8_t *bytes = NULL;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    if (!f)
        return NULL;
    int bad = deny(f, nobody, sizeof nobody / sizeof *nobody);
    bad |= network ? only_ip(f) : deny(f, private, sizeof private / sizeof *private);
    if (!bad)
        bytes = export(f, size);
    seccomp_release(f);
    return bytes;
}
