/* A load generator for the native protocol: many connections, one thread, epoll.
 *
 * It knows frames (docs/protocol.md) and nothing of what is in them: requests come as whole frames
 * from a file, so that Python's own encoder writes them, and only the request id is set here. Every
 * answer is held against the request that has its id, and where expected numbers are given, against
 * those. Latencies are kept in a histogram and, when asked, one by one in a file.
 *
 * Closed loop: each connection keeps `depth` requests on their way. Open loop (--rate): requests are
 * due at the times of a Poisson process, and a latency counts from the time a request was due, so
 * that a slow answer does not slow the asking.
 *
 * With --deadline (microseconds, as the requests themselves say) refusals are part of the game: who was let
 * in is counted by what became of it, from the time the request was due; latencies are those of answers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 32, KIND_ERROR = 5, SLOT_BITS = 12, MAX_DEPTH = 1 << SLOT_BITS };
enum { SUB_BITS = 7, BUCKETS = 64 << SUB_BITS, IOVECS = 128 };
#define GRACE_NS 5000000000ull /* how long answers are waited for after the last request */

typedef struct { const char *data; size_t size; const float *expected; uint32_t offset, count; } Request;
typedef struct { uint64_t id, since_ns; uint32_t request; char header[HEADER]; } Slot;
typedef struct {
    int fd, wants_write;
    Slot *slots;
    uint16_t *free_slots, *to_send; /* to_send is a ring of slots whose bytes are not out yet */
    uint32_t free_count, send_head, send_count;
    size_t send_offset; /* bytes of the first of them that are */
    uint64_t sequence;
    char *buffer;
    size_t filled, capacity;
} Connection;

static Request *requests;
static uint32_t request_count;
static uint32_t depth = 1, connection_count = 1;
static Connection *connections;
static int poller;
static double tolerance = 1e-4;
static uint64_t histogram[BUCKETS], answered, with_warmup, errors, wrong, lost, total_ns, max_ns, outstanding;
static uint64_t measure_from_ns, stop_ns;
static uint64_t deadline_ns, in_time, late, expired, refused;
static uint32_t next_request;
static FILE *trace;
static int answered_setup;

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "failed");
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

static size_t frame_size(const char *frame) {
    uint32_t head;
    uint64_t body;
    memcpy(&head, frame + 16, 4);
    memcpy(&body, frame + 24, 8);
    return HEADER + ((size_t)head + 7) / 8 * 8 + body;
}

static void load_requests(const char *path, const char *answers) {
    size_t size, at = 0, capacity = 0;
    char *data = read_file(path, &size);
    while (at + HEADER <= size) {
        if (request_count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            requests = realloc(requests, capacity * sizeof *requests);
        }
        requests[request_count++] = (Request){data + at, frame_size(data + at), NULL, 0, 0};
        at += frame_size(data + at);
    }
    if (at != size || !request_count) { errno = 0; die("the requests are not whole frames"); }
    if (!answers) return;
    /* For each request: offset in the answer's body, number of floats, and the floats. */
    data = read_file(answers, &size);
    for (uint32_t i = 0, place = 0; i < request_count; i++) {
        if (place + 8 > size) { errno = 0; die("fewer answers than requests"); }
        memcpy(&requests[i].offset, data + place, 4);
        memcpy(&requests[i].count, data + place + 4, 4);
        requests[i].expected = (const float *)(data + place + 8);
        place += 8 + requests[i].count * 4;
    }
}

static void record(uint64_t since, uint64_t now) {
    uint64_t ns = now - since;
    if (now < measure_from_ns || now >= stop_ns) return;
    int shift = 63 - SUB_BITS - __builtin_clzll(ns | 1);
    if (shift < 0) shift = 0;
    size_t bucket = ((size_t)shift << SUB_BITS) + (size_t)(ns >> shift);
    histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    answered++;
    total_ns += ns;
    if (ns > max_ns) max_ns = ns;
    if (trace) {
        uint64_t pair[2] = {since, ns};
        fwrite(pair, sizeof pair, 1, trace);
    }
}

static double quantile_us(double q) {
    uint64_t rank = (uint64_t)ceil(q * (double)answered), seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen >= rank && seen) {
            int shift = bucket >> SUB_BITS ? (int)(bucket >> SUB_BITS) - 1 : 0;
            uint64_t low = bucket - ((uint64_t)shift << SUB_BITS);
            return ((double)(low << shift) + (double)(1ull << shift) / 2) / 1000;
        }
    }
    return 0;
}

static void watch(Connection *c, int wants_write) {
    if (c->wants_write == wants_write) return;
    struct epoll_event event = {EPOLLIN | (wants_write ? EPOLLOUT : 0u), {.ptr = c}};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl");
    c->wants_write = wants_write;
}

static void flush_out(Connection *c) {
    while (c->send_count) {
        struct iovec parts[IOVECS];
        int used = 0;
        size_t skip = c->send_offset;
        for (uint32_t i = 0; i < c->send_count && used + 2 <= IOVECS; i++) {
            Slot *slot = &c->slots[c->to_send[(c->send_head + i) % depth]];
            Request *request = &requests[slot->request];
            if (skip < HEADER) parts[used++] = (struct iovec){slot->header + skip, HEADER - skip};
            size_t rest = skip < HEADER ? HEADER : skip;
            parts[used++] = (struct iovec){(void *)(request->data + rest), request->size - rest};
            skip = 0;
        }
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)used};
        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) { watch(c, 1); return; }
            die("send");
        }
        c->send_offset += (size_t)sent;
        while (c->send_count) {
            Slot *slot = &c->slots[c->to_send[c->send_head]];
            size_t size = requests[slot->request].size;
            if (c->send_offset < size) break;
            c->send_offset -= size;
            c->send_head = (c->send_head + 1) % depth;
            c->send_count--;
        }
    }
    watch(c, 0);
}

static void ask(Connection *c, uint64_t since_ns) {
    uint16_t number = c->free_slots[--c->free_count];
    Slot *slot = &c->slots[number];
    slot->id = (++c->sequence << SLOT_BITS) | number;
    slot->since_ns = since_ns;
    slot->request = next_request;
    next_request = (next_request + 1) % request_count;
    memcpy(slot->header, requests[slot->request].data, HEADER);
    memcpy(slot->header + 8, &slot->id, 8);
    c->to_send[(c->send_head + c->send_count++) % depth] = number;
    outstanding++;
}

static int is_right(const Request *request, const char *body, uint64_t size) {
    if (!request->expected) return 1;
    if (request->offset + 4ull * request->count > size) return 0;
    for (uint32_t i = 0; i < request->count; i++) {
        float got;
        memcpy(&got, body + request->offset + 4ull * i, 4);
        if (!(fabs((double)got - (double)request->expected[i]) <= tolerance)) return 0;
    }
    return 1;
}

static void take(Connection *c, const char *frame, size_t size) {
    uint64_t id, body;
    memcpy(&id, frame + 8, 8);
    memcpy(&body, frame + 24, 8);
    unsigned char kind = (unsigned char)frame[5];
    Slot *slot = &c->slots[id & (MAX_DEPTH - 1)];
    int is_told = 0; /* an error that a deadline explains */
    if (kind == KIND_ERROR && deadline_ns && slot->id == id) {
        int counts = slot->since_ns >= measure_from_ns && slot->since_ns < stop_ns;
        uint64_t *one = memmem(frame, size, "RESOURCE_EXHAUSTED", 18)  ? &refused
                        : memmem(frame, size, "DEADLINE_EXCEEDED", 17) ? &expired
                                                                       : NULL;
        is_told = one != NULL;
        if (one && counts) ++*one;
    }
    if (kind == KIND_ERROR && !is_told && errors < 3)
        fprintf(stderr, "load: refused: %.*s\n", (int)(size - HEADER), frame + HEADER);
    if ((id & (MAX_DEPTH - 1)) >= depth || slot->id != id || id == 0) { wrong++; return; }
    slot->id = 0;
    c->free_slots[c->free_count++] = (uint16_t)(id & (MAX_DEPTH - 1));
    outstanding--;
    with_warmup++;
    if (is_told) return;
    uint64_t now = now_ns();
    if (kind == KIND_ERROR) errors++;
    else if (!is_right(&requests[slot->request], frame + size - body, body)) wrong++;
    else if (deadline_ns && slot->since_ns >= measure_from_ns && slot->since_ns < stop_ns)
        ++*(now - slot->since_ns <= deadline_ns ? &in_time : &late);
    record(slot->since_ns, now);
}

/* Read what is there; each whole frame goes to `handle`. Returns -1 at the end of the stream. */
static int read_in(Connection *c, void (*handle)(Connection *, const char *, size_t)) {
    ssize_t got = recv(c->fd, c->buffer + c->filled, c->capacity - c->filled, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return -1;
    c->filled += (size_t)got;
    size_t at = 0;
    while (c->filled - at >= HEADER) {
        if (memcmp(c->buffer + at, "EDGD", 4)) { errno = 0; die("an answer that is no frame"); }
        size_t size = frame_size(c->buffer + at);
        if (c->filled - at < size) {
            if (size > c->capacity) c->buffer = realloc(c->buffer, c->capacity = size);
            break;
        }
        handle(c, c->buffer + at, size);
        at += size;
    }
    memmove(c->buffer, c->buffer + at, c->filled - at);
    c->filled -= at;
    return 0;
}

static void setup_answer(Connection *c, const char *frame, size_t size) {
    (void)c;
    answered_setup++;
    if ((unsigned char)frame[5] != KIND_ERROR) return;
    fprintf(stderr, "load: refused: %.*s\n", (int)(size - HEADER), frame + HEADER);
    exit(1);
}

static void connect_to(Connection *c, const char *path, const char *setup, size_t setup_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (void *)&address, sizeof address)) die(path);
    c->slots = calloc(depth, sizeof *c->slots);
    c->free_slots = calloc(depth, sizeof *c->free_slots);
    c->to_send = calloc(depth, sizeof *c->to_send);
    c->buffer = malloc(c->capacity = 256 << 10);
    for (uint32_t i = 0; i < depth; i++) c->free_slots[c->free_count++] = (uint16_t)i;
    /* Still blocking: what each connection says first, and one answer for each of its frames. */
    int wanted = 0;
    for (size_t at = 0; at < setup_size; at += frame_size(setup + at)) wanted++;
    if (setup_size && send(c->fd, setup, setup_size, 0) != (ssize_t)setup_size) die("send");
    answered_setup = 0;
    while (answered_setup < wanted)
        if (read_in(c, setup_answer)) { errno = 0; die("closed while it was set up"); }
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK)) die("fcntl");
    struct epoll_event event = {EPOLLIN, {.ptr = c}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void refill(Connection *c, uint64_t now) {
    while (c->free_count) ask(c, now);
    flush_out(c);
}

static double uniform(void) { return (drand48() * 0.999999) + 1e-9; }

/* Requests that are due, by a ring of due times: one that finds every slot taken waits its turn. */
static uint64_t *due_times;
static uint64_t due_head, due_count, due_capacity = 1 << 20;

static void send_due(uint32_t *turn) {
    while (due_count) {
        Connection *c = NULL;
        for (uint32_t i = 0; i < connection_count && !c; i++) {
            Connection *candidate = &connections[(*turn + i) % connection_count];
            if (candidate->free_count) c = candidate, *turn = (*turn + i + 1) % connection_count;
        }
        if (!c) return;
        ask(c, due_times[due_head]);
        due_head = (due_head + 1) % due_capacity;
        due_count--;
        flush_out(c);
    }
}

static void run(double rate) {
    int timer = -1;
    uint32_t turn = 0;
    uint64_t due = now_ns();
    if (rate > 0) {
        due_times = malloc(due_capacity * sizeof *due_times);
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
        if (timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event)) die("timerfd");
    } else {
        for (uint32_t i = 0; i < connection_count; i++) refill(&connections[i], now_ns());
    }
    for (;;) {
        uint64_t now = now_ns();
        if (rate > 0 && now < stop_ns) {
            while (due <= now && due_count < due_capacity) {
                due_times[(due_head + due_count++) % due_capacity] = due;
                due += (uint64_t)(-log(uniform()) / rate * 1e9) + 1;
            }
            send_due(&turn);
            struct itimerspec when = {.it_value = {(time_t)(due / 1000000000ull),
                                                   (long)(due % 1000000000ull)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        if (now >= stop_ns && (!outstanding || now >= stop_ns + GRACE_NS)) break;
        struct epoll_event events[256];
        int count = epoll_wait(poller, events, 256, 50);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timerfd");
                continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                if (read_in(c, take)) { errno = 0; lost += outstanding; die("closed by the daemon"); }
            now = now_ns();
            if (rate > 0 || now >= stop_ns) flush_out(c);
            else refill(c, now);
        }
    }
    lost += outstanding;
}

static void report(double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"answered\": %llu, \"with_warmup\": %llu, \"errors\": %llu, \"wrong\": %llu, \"lost\": %llu, "
           "\"seconds\": %.6f, \"per_s\": %.1f, \"mean_us\": %.2f, \"p50_us\": %.2f, "
           "\"p90_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, "
           "\"in_time\": %llu, \"late\": %llu, \"expired\": %llu, \"refused\": %llu, "
           "\"cpu_s\": %.3f}\n",
           (unsigned long long)answered, (unsigned long long)with_warmup,
           (unsigned long long)errors, (unsigned long long)wrong, (unsigned long long)lost, seconds, (double)answered / seconds,
           answered ? (double)total_ns / (double)answered / 1000 : 0.0, quantile_us(0.5),
           quantile_us(0.9), quantile_us(0.99), quantile_us(0.999), (double)max_ns / 1000,
           (unsigned long long)in_time, (unsigned long long)late, (unsigned long long)expired,
           (unsigned long long)refused, cpu);
}

/* Where the cores are busy the generator is woken as soon as the kernel can (Linux 6.12), or it would
   measure how late itself was. With less nice, where there is a right to it, it need not wait for the
   next tick of the clock behind a run either. */
static void be_prompt(int nice) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wanted = {.size = sizeof wanted, .nice = nice, .runtime = 100000};
    if (!syscall(SYS_sched_setattr, 0, &wanted, 0) || !nice) return;
    wanted.nice = 0;
    syscall(SYS_sched_setattr, 0, &wanted, 0);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"socket", 1, 0, 's'}, {"requests", 1, 0, 'q'}, {"answers", 1, 0, 'a'},
        {"setup", 1, 0, 'o'}, {"connections", 1, 0, 'c'}, {"depth", 1, 0, 'd'},
        {"seconds", 1, 0, 't'}, {"warmup", 1, 0, 'w'}, {"rate", 1, 0, 'r'},
        {"seed", 1, 0, 'e'}, {"tolerance", 1, 0, 'l'}, {"trace", 1, 0, 'f'},
        {"deadline", 1, 0, 'x'}, {"nice", 1, 0, 'n'}, {0, 0, 0, 0}};
    const char *path = NULL, *request_file = NULL, *answers = NULL, *setup_file = NULL;
    double seconds = 1, warmup = 0.2, rate = 0;
    int nice = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
            case 's': path = optarg; break;
            case 'q': request_file = optarg; break;
            case 'a': answers = optarg; break;
            case 'o': setup_file = optarg; break;
            case 'c': connection_count = (uint32_t)atoi(optarg); break;
            case 'd': depth = (uint32_t)atoi(optarg); break;
            case 't': seconds = atof(optarg); break;
            case 'w': warmup = atof(optarg); break;
            case 'r': rate = atof(optarg); break;
            case 'e': srand48(atol(optarg)); break;
            case 'x': deadline_ns = strtoull(optarg, NULL, 10) * 1000; break;
            case 'n': nice = atoi(optarg); break;
            case 'l': tolerance = atof(optarg); break;
            case 'f': trace = fopen(optarg, "wb"); if (!trace) die(optarg); break;
            default: return 2;
        }
    }
    if (!path || !request_file || !connection_count || !depth || depth > MAX_DEPTH) {
        fprintf(stderr, "load: --socket and --requests are needed; depth 1 to %d\n", MAX_DEPTH);
        return 2;
    }
    be_prompt(nice);
    load_requests(request_file, answers);
    size_t setup_size = 0;
    char *setup = setup_file ? read_file(setup_file, &setup_size) : NULL;
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(connection_count, sizeof *connections);
    for (uint32_t i = 0; i < connection_count; i++)
        connect_to(&connections[i], path, setup, setup_size);
    measure_from_ns = now_ns() + (uint64_t)(warmup * 1e9);
    stop_ns = measure_from_ns + (uint64_t)(seconds * 1e9);
    run(rate);
    if (trace) fclose(trace);
    report(seconds);
    return wrong || lost ? 3 : 0;
}
