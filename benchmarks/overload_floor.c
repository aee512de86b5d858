/* The part of overload_floor.py that reads, queues, refuses and answers: a shared library, so that no
 * Python is between a request and its refusal.
 *
 * It knows the sizes of frames (docs/protocol.md), not what is in them: nothing is looked up, checked, counted
 * or limited. One thread reads whatever has come on a connection, puts each request into its class' line while
 * that has room, and writes one canned refusal for all the others in one go. Threads that run the models take
 * from the highest class that waits and write the answer themselves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 32, TIMEOUT_AT = 40, RUN_BODY = 48, ANSWER_HEAD = 40, ROW = 64, PREPARE = 8, PREPARED = 9 };
enum { ANSWER = 11, CLASSES = 2, ROOM = 16, BUFFER = 256 << 10, REFUSAL = 512 };

typedef struct {
    int fd, class;
    pthread_mutex_t writes; /* of refusals and of answers, each whole */
    size_t filled;
    char data[BUFFER];
} Connection;

typedef struct { char row[ROW]; uint64_t id, due_ns; Connection *from; int class; } Asked; /* as in Python */
typedef struct { Asked items[ROOM]; unsigned first, count; } Line;

static Line lines[CLASSES];
static const char *names[CLASSES]; /* of the models; a connection is of the class it prepares for */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t there = PTHREAD_COND_INITIALIZER;
static char refusal[REFUSAL], expiry[REFUSAL];
static size_t refusal_size, expiry_size;
static int poller, listener;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static size_t frame_size(const char *frame) {
    uint32_t head;
    uint64_t body;
    memcpy(&head, frame + 16, 4);
    memcpy(&body, frame + 24, 8);
    return HEADER + ((size_t)head + 7) / 8 * 8 + body;
}

/* All of it; who asks always reads on, and whoever has left is not missed. */
static void write_out(Connection *c, struct iovec *parts, int count) {
    pthread_mutex_lock(&c->writes);
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    while (message.msg_iovlen) {
        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (sent < 0) break;
        for (; message.msg_iovlen && (size_t)sent >= message.msg_iov->iov_len; message.msg_iov++, message.msg_iovlen--)
            sent -= (ssize_t)message.msg_iov->iov_len;
        if (message.msg_iovlen) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
            message.msg_iov->iov_len -= (size_t)sent;
        }
    }
    pthread_mutex_unlock(&c->writes);
}

static void write_one(Connection *c, const char *data, size_t size) {
    struct iovec part = {(void *)data, size};
    write_out(c, &part, 1);
}

static int has_room(Connection *c, const char *frame) {
    uint64_t timeout_us;
    memcpy(&timeout_us, frame + TIMEOUT_AT, 8);
    pthread_mutex_lock(&guard);
    Line *line = &lines[c->class];
    int room = line->count < ROOM;
    if (room) {
        Asked *asked = &line->items[(line->first + line->count++) % ROOM];
        memcpy(asked->row, frame + RUN_BODY, ROW);
        memcpy(&asked->id, frame + 8, 8);
        asked->due_ns = timeout_us ? now_ns() + timeout_us * 1000 : UINT64_MAX;
        asked->from = c;
        asked->class = c->class;
        pthread_cond_signal(&there);
    }
    pthread_mutex_unlock(&guard);
    return room;
}

static void greet(Connection *c, const char *frame, size_t size) {
    for (int i = 0; i < CLASSES; i++)
        if (memmem(frame, size, names[i], strlen(names[i]))) c->class = i;
    char answer[HEADER] = {0};
    memcpy(answer, frame, 16); /* with the id; head and body are empty */
    answer[5] = PREPARED;
    write_one(c, answer, HEADER);
}

/* What has come; 0 at the end of the stream. */
static int read_in(Connection *c) {
    static char out[REFUSAL * (BUFFER / (RUN_BODY + ROW) + 1)];
    ssize_t got = recv(c->fd, c->data + c->filled, BUFFER - c->filled, MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    c->filled += (size_t)got;
    size_t at = 0, used = 0, size;
    for (; c->filled - at >= HEADER && c->filled - at >= (size = frame_size(c->data + at)); at += size) {
        const char *frame = c->data + at;
        if (frame[5] == PREPARE) {
            greet(c, frame, size);
        } else if (!has_room(c, frame)) {
            memcpy(out + used, refusal, refusal_size);
            memcpy(out + used + 8, frame + 8, 8);
            used += refusal_size;
        }
    }
    memmove(c->data, c->data + at, c->filled -= at);
    if (used) write_one(c, out, used);
    return 1;
}

/* Listens; `models` are their names, the higher class first. The refusals are whole frames of any id. */
int floor_open(const char *path, const char **models, const char *full, size_t full_size, const char *late,
               size_t late_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (full_size > REFUSAL || late_size > REFUSAL || strlen(path) >= sizeof address.sun_path) return -1;
    memcpy(names, models, sizeof names);
    memcpy(refusal, full, refusal_size = full_size);
    memcpy(expiry, late, expiry_size = late_size);
    strcpy(address.sun_path, path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    return listener < 0 || bind(listener, (void *)&address, sizeof address) || listen(listener, 64) ||
           epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) ? -1 : 0;
}

/* Reads, queues and refuses; for ever. */
void floor_serve(void) {
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            if (c) {
                /* Its memory stays: a request of it may still be in a line. */
                if (!read_in(c)) epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL), shutdown(c->fd, SHUT_RDWR);
                continue;
            }
            c = calloc(1, sizeof *c);
            c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            pthread_mutex_init(&c->writes, NULL);
            struct epoll_event event = {EPOLLIN, {.ptr = c}};
            epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
        }
    }
}

/* Waits for a request that is still in time, of the highest class; returns the class. */
int floor_take(Asked *asked) {
    for (;;) {
        pthread_mutex_lock(&guard);
        Line *line;
        while (!(line = lines[0].count ? &lines[0] : lines[1].count ? &lines[1] : NULL))
            pthread_cond_wait(&there, &guard);
        *asked = line->items[line->first];
        line->first = (line->first + 1) % ROOM;
        line->count--;
        pthread_mutex_unlock(&guard);
        if (now_ns() <= asked->due_ns) return asked->class;
        char frame[REFUSAL];
        memcpy(frame, expiry, expiry_size);
        memcpy(frame + 8, &asked->id, 8);
        write_one(asked->from, frame, expiry_size);
    }
}

/* Answers what floor_take gave. */
void floor_answer(const Asked *asked, const char *body, size_t size) {
    char head[HEADER + ANSWER_HEAD] = "EDGD\1";
    uint32_t head_size = ANSWER_HEAD;
    uint64_t body_size = size;
    head[5] = ANSWER;
    memcpy(head + 8, &asked->id, 8);
    memcpy(head + 16, &head_size, 4);
    memcpy(head + 24, &body_size, 8);
    struct iovec parts[] = {{head, sizeof head}, {(void *)body, size}};
    write_out(asked->from, parts, 2);
}
