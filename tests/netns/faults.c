/*
 * Preloaded into the agent by tests/netns/faults.rs: faults that a namespace cannot simulate.
 *
 * FAULT_CLOCK names a file with a number of seconds. The wall clock is off by this number, and jumps
 * when the file is replaced. The monotonic clock is not affected, as in the kernel.
 * FAULT_NO_IPV6 refuses IPv6 sockets, like a kernel with ipv6.disable=1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
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
    return (int)syscall(SYS_socket, domain, type, protocol);
}
