/* A load generator for HTTP/1.1 on a Unix socket: many connections, one thread, a closed loop.
 *
 * It sends the bytes of one file again and again, one request at a time on each connection, and reads each
 * answer to the end that its Content-Length says. Any status but 200 is an error. Every answer must end with
 * the bytes of the second file. What it found is one line of JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 1 << 20, MOST = 1 << 22 };

typedef struct { int fd; char *buffer; size_t filled, expected; uint64_t since_ns; } Connection;

static char *request, *tail;
static size_t request_size, tail_size;
static uint64_t answered, errors, wrong, from_ns;
static float *times_us;

static void die(const char *what) {
    fprintf(stderr, "http_load: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static char *read_file(const char *path, size_t *size) {
    struct stat about;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &about)) die(path);
    char *data = malloc((size_t)about.st_size + 1);
    *size = fread(data, 1, (size_t)about.st_size, file);
    fclose(file);
    return data;
}

static void ask(Connection *one) {
    one->filled = one->expected = 0;
    one->since_ns = now_ns();
    for (size_t sent = 0; sent < request_size;) {
        ssize_t n = send(one->fd, request + sent, request_size - sent, MSG_NOSIGNAL);
        if (n <= 0) die("send");
        sent += (size_t)n;
    }
}

static void judge(const Connection *one, uint64_t now) {
    if (now < from_ns) return;
    if (answered < MOST) times_us[answered] = (float)((double)(now - one->since_ns) / 1000.0);
    answered++;
    if (memcmp(one->buffer + 9, "200", 3)) errors++;
    else if (memcmp(one->buffer + one->filled - tail_size, tail, tail_size)) wrong++;
}

/* Whether an answer is whole. */
static int take(Connection *one) {
    ssize_t n = recv(one->fd, one->buffer + one->filled, CAPACITY - one->filled, 0);
    if (n <= 0) die("the connection was closed");
    one->filled += (size_t)n;
    if (!one->expected) {
        char *end = memmem(one->buffer, one->filled, "\r\n\r\n", 4);
        if (!end) return 0;
        char *length = memmem(one->buffer, one->filled, "Content-Length: ", 16);
        if (!length) { errno = 0; die("an answer without Content-Length"); }
        one->expected = (size_t)(end + 4 - one->buffer) + strtoull(length + 16, NULL, 10);
    }
    return one->filled == one->expected;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words) {
    if (count != 6) { errno = 0; die("SOCKET REQUEST TAIL SECONDS CONNECTIONS"); }
    request = read_file(words[2], &request_size);
    tail = read_file(words[3], &tail_size);
    double seconds = atof(words[4]);
    int wanted = atoi(words[5]), poller = epoll_create1(0);
    Connection *all = calloc((size_t)wanted, sizeof *all);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    times_us = malloc(MOST * sizeof *times_us);
    uint64_t start = now_ns(), stop;
    from_ns = start + (uint64_t)(seconds * 0.2e9);
    stop = from_ns + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < wanted; i++) {
        all[i] = (Connection){.fd = socket(AF_UNIX, SOCK_STREAM, 0), .buffer = malloc(CAPACITY)};
        if (connect(all[i].fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &event)) die("epoll");
        ask(&all[i]);
    }
    uint64_t now = start;
    while (now < stop) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, 5000);
        if (ready <= 0) die("no answer within 5 s");
        for (int i = 0; i < ready; i++) {
            Connection *one = events[i].data.ptr;
            if (!take(one)) continue;
            judge(one, now = now_ns());
            ask(one);
        }
    }
    size_t kept = answered < MOST ? answered : MOST;
    if (!kept) { errno = 0; die("nothing was answered"); }
    qsort(times_us, kept, sizeof *times_us, by_size);
    printf("{\"per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"answered\": %llu, \"errors\": %llu, \"wrong\": %llu}\n",
           (double)answered / ((double)(now - from_ns) / 1e9), times_us[kept / 2], times_us[kept * 99 / 100],
           (unsigned long long)answered, (unsigned long long)errors, (unsigned long long)wrong);
    return errors || wrong ? 1 : 0;
}
