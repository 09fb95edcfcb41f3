/*
 * Preloaded into the agent by tests/netns/faults.rs: faults that a namespace cannot simulate.
 *
 * FAULT_CLOCK names a file with a number of seconds. The wall clock is off by this number, and jumps
 * when the file is replaced. The monotonic clock is not affected, as in the kernel.
 * FAULT_NO_IPV6 refuses IPv6 sockets, like a kernel with ipv6.disable=1.
 * FAULT_NO_NETFILTER refuses sockets of netfilter, like a kernel without nfnetlink.
 * FAULT_NO_NFTABLES makes the kernel see requests to another subsystem of nfnetlink that does not
 * exist, like a kernel without nf_tables.
 * FAULT_NO_EXPRESSION names an expression of nf_tables. The kernel sees another name, like a kernel
 * without the expression.
 * FAULT_CONNTRACK_STAT names a file that is read instead of /proc/net/stat/nf_conntrack, over which
 * nothing can be mounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <linux/netlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static long offset(void) {
    char text[32] = {0};
    const char *path = getenv("FAULT_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int saved = errno;
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += offset();
    if (result == 0)
        errno = saved;
    return result;
}

int socket(int domain, int type, int protocol) {
    if (domain == AF_INET6 && getenv("FAULT_NO_IPV6")) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    if (domain == AF_NETLINK && protocol == NETLINK_NETFILTER && getenv("FAULT_NO_NETFILTER")) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return (int)syscall(SYS_socket, domain, type, protocol);
}

static void change(char *bytes, size_t length) {
    const char *expression = getenv("FAULT_NO_EXPRESSION");
    char *at = bytes;
    while (expression && (at = memmem(at, length - (at - bytes), expression, strlen(expression) + 1)))
        *at = 'x';
    struct nlmsghdr *message = (struct nlmsghdr *)bytes;
    int rest = (int)length;
    for (; getenv("FAULT_NO_NFTABLES") && NLMSG_OK(message, rest); message = NLMSG_NEXT(message, rest))
        if (message->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES)
            message->nlmsg_type = 0x7f00 | (message->nlmsg_type & 0xff);
}

static ssize_t send_as(int file, const void *bytes, size_t length, int flags,
                       const struct sockaddr *to, socklen_t to_length) {
    int domain = 0;
    socklen_t size = sizeof domain;
    getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    char *copy = domain == AF_NETLINK ? malloc(length) : NULL;
    if (copy) {
        memcpy(copy, bytes, length);
        change(copy, length);
    }
    ssize_t sent = syscall(SYS_sendto, file, copy ? copy : bytes, length, flags, to, to_length);
    int saved = errno;
    free(copy);
    errno = saved;
    return sent;
}

ssize_t sendto(int file, const void *bytes, size_t length, int flags, const struct sockaddr *to,
               socklen_t to_length) {
    return send_as(file, bytes, length, flags, to, to_length);
}

ssize_t send(int file, const void *bytes, size_t length, int flags) {
    return send_as(file, bytes, length, flags, NULL, 0);
}

int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    const char *counters = getenv("FAULT_CONNTRACK_STAT");
    if (counters && strstr(path, "/net/stat/nf_conntrack"))
        path = counters;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
