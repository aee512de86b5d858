/* What a gRPC client takes by itself: a server that answers every call at once with the same bytes.
 *
 *     grpc_client_floor PORT ANSWER [AWAKE_US]
 *
 * It listens on a port of 127.0.0.1, reads no header and no message, runs nothing, and writes to every call
 * that has ended the bytes of ANSWER as its message. After an answer it stays awake for AWAKE_US before it
 * sleeps, as a server that learns that its client is quick may: the lowest of both is the floor.
 * HTTP/2 as RFC 9113 has it, as far as a client that keeps to it can tell.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, HEAD = 9, ROOM = 1 << 17, MOST_ANSWER = 1 << 12, PREFACE = 24 };

static const uint8_t begin[] = "\x88\x0f\x10\x10" "application/grpc"; /* :status 200, content-type */
static const uint8_t end[] = "\x00\x0b" "grpc-status" "\x01" "0";

typedef struct {
    int fd;
    size_t filled, to_write, unseen;
    int has_begun;
    uint8_t in[ROOM], out[ROOM];
} Connection;

static uint8_t message[MOST_ANSWER + 5];
static size_t message_size;

static void die(const char *what) {
    fprintf(stderr, "grpc_client_floor: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000ull + (uint64_t)t.tv_nsec / 1000;
}

static void flush(Connection *one) {
    for (size_t sent = 0; sent < one->to_write;) {
        ssize_t n = send(one->fd, one->out + sent, one->to_write - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { sched_yield(); continue; }
        if (n <= 0) break; /* it has gone; the next read says so */
        sent += (size_t)n;
    }
    one->to_write = 0;
}

static void put(Connection *one, int kind, int flags, uint32_t stream, const void *data, size_t size) {
    if (one->to_write + HEAD + size > ROOM) flush(one);
    uint8_t *at = one->out + one->to_write;
    uint8_t head[HEAD] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, (uint8_t)kind, (uint8_t)flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(at, head, HEAD);
    if (size) memcpy(at + HEAD, data, size);
    one->to_write += HEAD + size;
}

static void on_frame(Connection *one, int kind, int flags, uint32_t stream, const uint8_t *data, size_t size) {
    if (kind == SETTINGS && !(flags & ACK)) put(one, SETTINGS, ACK, 0, NULL, 0);
    if (kind == PING && !(flags & ACK)) put(one, PING, ACK, 0, data, size);
    if (kind == DATA && (one->unseen += size) > ROOM / 4) { /* or its window runs dry */
        uint8_t step[4] = {0, (uint8_t)(one->unseen >> 16), (uint8_t)(one->unseen >> 8), (uint8_t)one->unseen};
        put(one, WINDOW, 0, 0, step, 4);
        one->unseen = 0;
    }
    if ((kind != DATA && kind != HEADERS) || !(flags & END_STREAM)) return;
    put(one, HEADERS, 4, stream, begin, sizeof begin - 1);
    put(one, DATA, 0, stream, message, message_size);
    put(one, HEADERS, 4 | END_STREAM, stream, end, sizeof end - 1);
}

/* Whether it is still there. */
static int serve(Connection *one) {
    ssize_t n = recv(one->fd, one->in + one->filled, ROOM - one->filled, 0);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) return 0;
    one->filled += (size_t)n;
    size_t at = 0;
    if (!one->has_begun) {
        if (one->filled < PREFACE) return 1;
        one->has_begun = 1;
        at = PREFACE;
    }
    while (one->filled - at >= HEAD) {
        const uint8_t *frame = one->in + at;
        size_t size = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
        if (size > ROOM - HEAD) return 0;
        if (one->filled - at < HEAD + size) break;
        uint32_t stream = (uint32_t)frame[5] << 24 | (uint32_t)frame[6] << 16 | (uint32_t)frame[7] << 8 | frame[8];
        on_frame(one, frame[3], frame[4], stream, frame + HEAD, size);
        at += HEAD + size;
    }
    memmove(one->in, one->in + at, one->filled -= at);
    flush(one);
    return 1;
}

static int listen_on(int port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), again = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &again, sizeof again);
    if (bind(fd, (void *)&place, sizeof place) || listen(fd, 64)) die("listen");
    return fd;
}

static void take_new(int listener, int poller) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), at_once = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    Connection *one = calloc(1, sizeof *one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (!one) die("memory");
    one->fd = fd;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll");
    put(one, SETTINGS, 0, 0, "\0\4\0\x10\0\0", 6); /* a stream may be a MiB long */
    flush(one);
}

int main(int count, char **words) {
    if (count < 3 || count > 4) { errno = 0; die("PORT ANSWER [AWAKE_US]"); }
    FILE *file = fopen(words[2], "rb");
    if (!file) die(words[2]);
    size_t size = fread(message + 5, 1, MOST_ANSWER, file);
    fclose(file);
    message[3] = (uint8_t)(size >> 8), message[4] = (uint8_t)size; /* not compressed, and how long */
    message_size = size + 5;
    uint64_t awake_us = count > 3 ? strtoull(words[3], NULL, 10) : 0, until_us = 0;
    int listener = listen_on(atoi(words[1])), poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, until_us && now_us() < until_us ? 0 : -1);
        if (ready < 0 && errno != EINTR) die("epoll");
        if (ready <= 0) { sched_yield(); continue; } /* the client may be on this very core */
        for (int i = 0; i < ready; i++) {
            Connection *one = events[i].data.ptr;
            if (!one) { take_new(listener, poller); continue; }
            if (serve(one)) continue;
            close(one->fd);
            free(one);
        }
        until_us = awake_us ? now_us() + awake_us : 0;
    }
}
