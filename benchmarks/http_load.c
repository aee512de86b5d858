/* A load generator for HTTP/1.1 on a Unix socket or a port of this machine: many connections, one thread.
 *
 *     http_load PLACE REQUEST WANTED SECONDS CONNECTIONS [RATE [SEED [ID]]]
 *
 * PLACE is the path of a socket, or the number of a port of 127.0.0.1. It sends the bytes of REQUEST again and
 * again, one request at a time on each connection, and reads each answer to the end that its Content-Length
 * says. Any status but 200 is an error. The body of every answer must contain the bytes of WANTED. What it
 * found is one line of JSON. Without RATE it is a closed loop; with it, so many requests a second are due at
 * random times (Poisson), each goes out on a connection that is free, and counts from when it was due.
 * ID is a text in REQUEST: in its place each request has a number of its own, as long, which its answer must
 * contain too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 1 << 20, MOST = 1 << 22, RING = 1 << 16 };

typedef struct {
    int fd, is_busy;
    char *buffer;
    size_t filled, head, expected;
    uint64_t since_ns;
    char id[32];
} Connection;

static char *request, *wanted, *id_place;
static size_t request_size, wanted_size, id_size;
static unsigned long next_id;
static uint64_t answered, errors, wrong, from_ns;
static Connection *all;
static int connections, poller;
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

static void ask(Connection *one, uint64_t since_ns) {
    one->filled = one->head = one->expected = 0;
    one->is_busy = 1;
    one->since_ns = since_ns;
    if (id_size) {
        snprintf(one->id, sizeof one->id, "%0*lu", (int)id_size, next_id++);
        memcpy(id_place, one->id, id_size);
    }
    for (size_t sent = 0; sent < request_size;) {
        ssize_t n = send(one->fd, request + sent, request_size - sent, MSG_NOSIGNAL);
        if (n <= 0) die("send");
        sent += (size_t)n;
    }
}

static void judge(Connection *one, uint64_t now) {
    one->is_busy = 0;
    if (one->since_ns < from_ns) return;
    if (answered < MOST) times_us[answered] = (float)((double)(now - one->since_ns) / 1000.0);
    answered++;
    if (memcmp(one->buffer + 9, "200", 3)) errors++;
    else if (!memmem(one->buffer + one->head, one->expected - one->head, wanted, wanted_size)) wrong++;
    else if (id_size && !memmem(one->buffer + one->head, one->expected - one->head, one->id, id_size)) wrong++;
}

/* The value of Content-Length, in whatever letters it is written; the head is whole by now. */
static size_t length_of(const char *head, const char *end) {
    static const char name[] = "\r\ncontent-length:";
    for (const char *at = head; at + sizeof name - 1 < end; at++)
        if (*at == '\r' && !strncasecmp(at, name, sizeof name - 1)) return strtoull(at + sizeof name - 1, NULL, 10);
    errno = 0;
    die("an answer without Content-Length");
    return 0;
}

/* Whether an answer is whole. */
static int take(Connection *one) {
    ssize_t n = recv(one->fd, one->buffer + one->filled, CAPACITY - one->filled, 0);
    if (n <= 0) { if (!n) errno = 0; die("the connection was closed"); }
    one->filled += (size_t)n;
    if (!one->expected) {
        char *end = memmem(one->buffer, one->filled, "\r\n\r\n", 4);
        if (!end) return 0;
        one->head = (size_t)(end + 4 - one->buffer);
        one->expected = one->head + length_of(one->buffer, end + 2);
    }
    return one->filled == one->expected;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void connect_to(Connection *one, const char *place) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(place))};
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    strncpy(path.sun_path, place, sizeof path.sun_path - 1);
    int is_path = strchr(place, '/') != NULL, at_once = 1;
    one->buffer = malloc(CAPACITY);
    one->fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_path ? connect(one->fd, (void *)&path, sizeof path) : connect(one->fd, (void *)&port, sizeof port))
        die(place);
    if (!is_path) setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, one->fd, &event)) die("epoll");
}

/* Requests that are due, by a ring of due times: one that finds every connection taken waits its turn. */
static uint64_t due_times[RING], next_due, stop_ns;
static uint32_t due_head, due_count;
static int timer = -1;

static void send_due(double rate) {
    uint64_t now = now_ns();
    for (; next_due <= now && next_due < stop_ns; next_due += (uint64_t)(-log(1 - drand48()) / rate * 1e9) + 1) {
        if (due_count == RING) { errno = 0; die("it falls ever further behind"); }
        due_times[(due_head + due_count++) % RING] = next_due;
    }
    for (int i = 0; i < connections && due_count; i++) {
        if (all[i].is_busy) continue;
        ask(&all[i], due_times[due_head]);
        due_head = (due_head + 1) % RING;
        due_count--;
    }
    struct itimerspec when = {.it_value = {(time_t)(next_due / 1000000000ull), (long)(next_due % 1000000000ull)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int is_quiet(void) {
    for (int i = 0; i < connections; i++) if (all[i].is_busy) return 0;
    return !due_count;
}

static uint64_t run(double rate) {
    uint64_t now = now_ns();
    if (rate > 0) {
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        if (timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event)) die("timerfd");
        next_due = now;
    } else {
        for (int i = 0; i < connections; i++) ask(&all[i], now_ns());
    }
    while (now < stop_ns || (rate > 0 && !is_quiet())) {
        struct epoll_event events[64];
        if (rate > 0) send_due(rate);
        int ready = epoll_wait(poller, events, 64, 5000);
        if (ready <= 0) die("no answer within 5 s");
        now = now_ns();
        for (int i = 0; i < ready; i++) {
            Connection *one = events[i].data.ptr;
            uint64_t ticks;
            if (!one) {
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timerfd");
                continue;
            }
            if (!take(one)) continue;
            judge(one, now = now_ns());
            if (rate <= 0) ask(one, now_ns());
        }
    }
    return now;
}

int main(int count, char **words) {
    if (count < 6 || count > 9) { errno = 0; die("PLACE REQUEST WANTED SECONDS CONNECTIONS [RATE [SEED [ID]]]"); }
    request = read_file(words[2], &request_size);
    wanted = read_file(words[3], &wanted_size);
    double seconds = atof(words[4]), rate = count > 6 ? atof(words[6]) : 0;
    connections = atoi(words[5]);
    srand48(count > 7 ? atol(words[7]) : 1);
    if (count > 8) {
        id_size = strlen(words[8]);
        id_place = memmem(request, request_size, words[8], id_size);
        if (!id_place || id_size < 8 || id_size >= sizeof all->id) { errno = 0; die("ID: 8 to 31 letters of REQUEST"); }
    }
    poller = epoll_create1(0);
    all = calloc((size_t)connections, sizeof *all);
    times_us = malloc(MOST * sizeof *times_us);
    for (int i = 0; i < connections; i++) connect_to(&all[i], words[1]);
    from_ns = now_ns() + (uint64_t)(seconds * 0.2e9);
    stop_ns = from_ns + (uint64_t)(seconds * 1e9);
    uint64_t end_ns = run(rate);
    if (rate > 0) end_ns = stop_ns;
    size_t kept = answered < MOST ? answered : MOST;
    if (!kept) { errno = 0; die("nothing was answered"); }
    qsort(times_us, kept, sizeof *times_us, by_size);
    printf("{\"per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"answered\": %llu, \"errors\": %llu, \"wrong\": %llu}\n",
           (double)answered / ((double)(end_ns - from_ns) / 1e9), times_us[kept / 2], times_us[kept * 99 / 100],
           (unsigned long long)answered, (unsigned long long)errors, (unsigned long long)wrong);
    return errors || wrong ? 1 : 0;
}
