/* For tests: a small HTTP server with the hub's API over a directory ROOT/ORG/NAME/FILES, on two ports of the loopback:
 * the hub, and the storage that it redirects large files to, which is another origin. It can be told to fail.
 *
 *   /api/models/ORG/NAME/revision/REV    {"sha": commit}
 *   /api/models/ORG/NAME/tree/COMMIT     the files with sizes and hashes, in pages where `page` says so
 *   /ORG/NAME/resolve/COMMIT/PATH        small files; weights: 302 to the storage
 *   (storage) /data/ORG/NAME/PATH?sig    weights, with ranges */
#ifndef SR_TESTS_HUB_SERVER_H
#define SR_TESTS_HUB_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/disk.h"
#include "base/map.h"

enum fault_kind {
    FAULT_STATUS,      /* answers `n`, with the header lines of `text` */
    FAULT_CUT,         /* closes the connection after n bytes of the body */
    FAULT_STALL,       /* says nothing more after n bytes of the body */
    FAULT_FLIP,        /* damages byte n of the body */
    FAULT_SHORT,       /* says and sends n bytes less */
    FAULT_LONG,        /* says and sends n bytes more */
    FAULT_NO_RANGE,    /* sends all although a part was asked for */
    FAULT_WRONG_RANGE, /* sends the part that begins one byte later */
    FAULT_REDIRECT,    /* 302 to `text` */
    FAULT_DRIP,        /* a byte every 20 ms */
    FAULT_HANG         /* accepts and says nothing */
};

struct fault {
    const char *match; /* part of the path */
    int times;         /* how often; -1: always */
    enum fault_kind kind;
    long n;
    const char *text;
};

struct request {
    char path[300];
    long from;  /* of the range, -1: none */
    bool token; /* an Authorization header came */
    int port;   /* 0: hub, 1: storage */
};

enum { MOST_REQUESTS = 256, MOST_FAULTS = 8 };

struct server {
    int fd[2], port[2];
    char root[640], commit[41];
    const char *want_token; /* without it every request is refused with 401; NULL: none needed */
    const char *extra;      /* JSON that the list of files begins with, "" for none */
    int page;               /* files on a page, 0: all */
    bool quit;
    pthread_t thread;
    pthread_mutex_t lock;
    struct fault fault[MOST_FAULTS];
    int n_faults;
    struct request request[MOST_REQUESTS];
    int n_requests;
    int open;  /* connections */
    FILE *log; /* a line for each request, or NULL */
};

/* ---------------------------------------------------------------- answers */

static bool send_all(int fd, const void *data, size_t n) {
    const char *p = data;
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w <= 0) return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* Says nothing until the other side goes away. */
static void wait_for_end(struct server *s, int fd) {
    struct timespec pause = {0, 20000000};
    for (struct pollfd p = {fd, POLLIN, 0}; !s->quit && poll(&p, 1, 0) == 0;) nanosleep(&pause, NULL);
}

static void answer(int fd, int status, const char *headers, const char *body) {
    char head[2048];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status,
                     strlen(body), headers);
    send_all(fd, head, (size_t)n);
    send_all(fd, body, strlen(body));
}

static bool is_weights(const char *path) {
    size_t n = strlen(path);
    return (n > 12 && strcmp(path + n - 12, ".safetensors") == 0) || (n > 5 && strcmp(path + n - 5, ".gguf") == 0) ||
           (n > 4 && strcmp(path + n - 4, ".bin") == 0) || (n > 3 && strcmp(path + n - 3, ".pt") == 0);
}

static void git_sha1(const char *data, size_t n, char hex[SR_DIGEST_HEX]) {
    char head[40];
    sr_digest d = sr_sha1();
    sr_digest_add(&d, head, (size_t)snprintf(head, sizeof head, "blob %zu", n) + 1);
    sr_digest_add(&d, data, n);
    sr_digest_hex(&d, hex);
}

struct tree {
    const char *dir;
    char *text;
    size_t n, cap;
    int index, first, count; /* files first .. first + count - 1 */
};

static bool add_to_tree(void *ctx, const char *path, int64_t size) {
    struct tree *t = ctx;
    char full[1200], sha1[SR_DIGEST_HEX], sha256[SR_DIGEST_HEX], *data;
    size_t n;
    int index = t->index++;
    if (index < t->first || index >= t->first + t->count) return true;
    snprintf(full, sizeof full, "%s/%s", t->dir, path);
    if (sr_file_read(full, 1 << 30, &data, &n, NULL) != SR_OK) return true;
    git_sha1(data, n, sha1);
    sr_digest d = sr_sha256();
    sr_digest_add(&d, data, n);
    sr_digest_hex(&d, sha256);
    free(data);
    if (t->cap - t->n < 2000) t->text = realloc(t->text, t->cap = 2 * t->cap + 4000);
    t->n += (size_t)snprintf(t->text + t->n, t->cap - t->n,
                             "%s{\"type\":\"file\",\"oid\":\"%s\",\"size\":%" PRId64 ",\"path\":\"%s\"",
                             t->n > 1 ? "," : "", sha1, size, path);
    if (is_weights(path))
        t->n += (size_t)snprintf(t->text + t->n, t->cap - t->n,
                                 ",\"lfs\":{\"oid\":\"%s\",\"size\":%" PRId64 ",\"pointerSize\":134}", sha256, size);
    t->text[t->n++] = '}';
    t->text[t->n] = 0;
    return true;
}

static void answer_tree(struct server *s, int fd, const char *repo, const char *query) {
    char dir[1000], link[500] = "";
    const char *cursor = strstr(query, "cursor=");
    snprintf(dir, sizeof dir, "%s/%s", s->root, repo);
    struct tree t = {.dir = dir, .first = cursor ? atoi(cursor + 7) : 0, .count = s->page ? s->page : 1 << 20};
    t.text = malloc(t.cap = 8000);
    t.n = (size_t)snprintf(t.text, t.cap, "[%s", s->extra ? s->extra : "");
    sr_disk_walk(dir, add_to_tree, &t, NULL);
    if (t.index > t.first + t.count)
        snprintf(link, sizeof link,
                 "Link: <http://127.0.0.1:%d/api/models/%s/tree/%s?recursive=true&cursor=%d>; rel=\"next\"\r\n",
                 s->port[0], repo, s->commit, t.first + t.count);
    t.text = realloc(t.text, t.n + 2);
    strcpy(t.text + t.n, "]");
    answer(fd, 200, link, t.text);
    free(t.text);
}

static void answer_file(struct server *s, int fd, const char *path, long from, const struct fault *f) {
    char full[1200], head[400], *data;
    size_t n;
    snprintf(full, sizeof full, "%s/%s", s->root, path);
    if (sr_file_read(full, 1 << 30, &data, &n, NULL) != SR_OK) {
        answer(fd, 404, "X-Error-Code: EntryNotFound\r\n", "no such file");
        return;
    }
    if (f && f->kind == FAULT_FLIP && (size_t)f->n < n) data[f->n] ^= 1;
    if (f && f->kind == FAULT_SHORT) n -= (size_t)f->n;
    if (f && f->kind == FAULT_LONG) {
        data = realloc(data, n + (size_t)f->n);
        memset(data + n, 'x', (size_t)f->n);
        n += (size_t)f->n;
    }
    if (f && f->kind == FAULT_NO_RANGE) from = -1;
    if (from >= (long)n) {
        answer(fd, 416, "", "");
        free(data);
        return;
    }
    size_t at = from > 0 ? (size_t)from : 0;
    if (f && f->kind == FAULT_WRONG_RANGE && from >= 0) at++;
    int m = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n",
                     from >= 0 ? 206 : 200, n - at);
    if (from >= 0)
        m += snprintf(head + m, sizeof head - (size_t)m, "Content-Range: bytes %zu-%zu/%zu\r\n", at, n - 1, n);
    m += snprintf(head + m, sizeof head - (size_t)m, "\r\n");
    send_all(fd, head, (size_t)m);
    if (f && (f->kind == FAULT_CUT || f->kind == FAULT_STALL))
        send_all(fd, data + at, (size_t)f->n < n - at ? (size_t)f->n : n - at);
    else if (f && f->kind == FAULT_DRIP)
        for (struct timespec pause = {0, 20000000}; at < n && !s->quit && send_all(fd, data + at, 1); at++)
            nanosleep(&pause, NULL);
    else
        send_all(fd, data + at, n - at);
    if (f && f->kind == FAULT_STALL) wait_for_end(s, fd);
    free(data);
}

/* ---------------------------------------------------------------- requests */

/* Takes the first fault that fits and is not used up. */
static bool take_fault(struct server *s, const char *path, struct fault *to) {
    for (int i = 0; i < s->n_faults; i++) {
        struct fault *f = &s->fault[i];
        if (f->times == 0 || !strstr(path, f->match)) continue;
        if (f->times > 0) f->times--;
        *to = *f;
        return true;
    }
    return false;
}

static void decode(char *s) { /* %XX */
    char *to = s;
    for (; *s; s++) {
        unsigned c;
        if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1) {
            *to++ = (char)c;
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

/* "ORG/NAME" at the start of `path`; the rest, or NULL when there is no such repository. */
static char *take_repo(struct server *s, char *path, char repo[256]) {
    char *slash = strchr(path, '/'), *end = slash ? strchr(slash + 1, '/') : NULL, dir[1000];
    if (!end || end - path > 250) return NULL;
    snprintf(repo, 256, "%.*s", (int)(end - path), path);
    snprintf(dir, sizeof dir, "%s/%s", s->root, repo);
    return access(dir, F_OK) == 0 ? end + 1 : NULL;
}

static void handle_hub(struct server *s, int fd, char *path, const char *query, long from, const struct fault *f) {
    char repo[256], location[1200];
    bool api = strncmp(path, "/api/models/", 12) == 0;
    char *rest = take_repo(s, path + (api ? 12 : 1), repo);
    if (!rest) {
        answer(fd, 401, "X-Error-Code: RepoNotFound\r\n", "{}");
    } else if (api && strncmp(rest, "revision/", 9) == 0) {
        decode(rest + 9);
        bool known =
            strcmp(rest + 9, "main") == 0 || strcmp(rest + 9, "refs/pr/1") == 0 || strcmp(rest + 9, s->commit) == 0;
        snprintf(location, sizeof location, "{\"id\":\"%s\",\"sha\":\"%s\",\"gated\":false}", repo, s->commit);
        answer(fd, known ? 200 : 404, known ? "" : "X-Error-Code: RevisionNotFound\r\n", known ? location : "{}");
    } else if (api && strncmp(rest, "tree/", 5) == 0) {
        answer_tree(s, fd, repo, query);
    } else if (!api && strncmp(rest, "resolve/", 8) == 0 && strchr(rest + 8, '/')) {
        char *file = strchr(rest + 8, '/') + 1;
        if (is_weights(file)) {
            snprintf(location, sizeof location, "Location: http://127.0.0.1:%d/data/%s/%s?sig=1\r\n", s->port[1], repo,
                     file);
            answer(fd, 302, location, "moved");
            return;
        }
        decode(file);
        snprintf(location, sizeof location, "%s/%s", repo, file);
        answer_file(s, fd, location, from, f);
    } else {
        answer(fd, 404, "", "{}");
    }
}

struct connection {
    struct server *server;
    int fd, port;
};

static void *connection_main(void *arg) {
    struct connection c = *(struct connection *)arg;
    struct server *s = c.server;
    struct fault f;
    char text[8192], path[300], *range;
    size_t n = 0;
    free(arg);
    text[0] = 0;
    while (n + 1 < sizeof text && !strstr(text, "\r\n\r\n")) {
        ssize_t r = recv(c.fd, text + n, sizeof text - 1 - n, 0);
        if (r <= 0) break;
        n += (size_t)r;
        text[n] = 0;
    }
    if (sscanf(text, "GET %299s HTTP", path) == 1) {
        struct request q = {.from = -1, .port = c.port, .token = strstr(text, "Authorization: ") != NULL};
        snprintf(q.path, sizeof q.path, "%s", path);
        if ((range = strstr(text, "Range: bytes="))) q.from = atol(range + 13);
        pthread_mutex_lock(&s->lock);
        if (s->n_requests < MOST_REQUESTS) s->request[s->n_requests++] = q;
        if (s->log) fprintf(s->log, "%d %s %ld\n", q.port, q.path, q.from);
        if (s->log) fflush(s->log);
        bool faulty = take_fault(s, path, &f);
        pthread_mutex_unlock(&s->lock);
        char wanted[200] = "", *query = strchr(path, '?');
        if (s->want_token) snprintf(wanted, sizeof wanted, "Authorization: Bearer %s\r\n", s->want_token);
        if (query) *query++ = 0;
        if (faulty && f.kind == FAULT_STATUS) {
            answer(c.fd, (int)f.n, f.text ? f.text : "", "{}");
        } else if (faulty && f.kind == FAULT_REDIRECT) {
            char location[700];
            snprintf(location, sizeof location, "Location: %s\r\n", f.text);
            answer(c.fd, 302, location, "");
        } else if (faulty && f.kind == FAULT_HANG) {
            wait_for_end(s, c.fd);
        } else if (c.port == 0 && !strstr(text, wanted)) {
            answer(c.fd, 401, q.token ? "" : "X-Error-Code: GatedRepo\r\n", "{}");
        } else if (c.port == 0) {
            handle_hub(s, c.fd, path, query ? query : "", q.from, faulty ? &f : NULL);
        } else {
            decode(path);
            answer_file(s, c.fd, strncmp(path, "/data/", 6) == 0 ? path + 6 : path, q.from, faulty ? &f : NULL);
        }
    }
    /* Unread bytes would turn the end into a reset that loses the answer. */
    shutdown(c.fd, SHUT_WR);
    struct timeval wait = {1, 0};
    setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    while (!s->quit && recv(c.fd, text, sizeof text, 0) > 0) continue;
    close(c.fd);
    pthread_mutex_lock(&s->lock);
    s->open--;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void *server_main(void *arg) {
    struct server *s = arg;
    while (!s->quit) {
        struct pollfd p[2] = {{s->fd[0], POLLIN, 0}, {s->fd[1], POLLIN, 0}};
        if (poll(p, 2, 50) <= 0) continue;
        for (int i = 0; i < 2; i++) {
            if (!(p[i].revents & POLLIN)) continue;
            struct connection *c = malloc(sizeof *c);
            pthread_t thread;
            *c = (struct connection){s, accept(s->fd[i], NULL, NULL), i};
            if (c->fd < 0) {
                free(c);
                continue;
            }
            pthread_mutex_lock(&s->lock);
            s->open++;
            pthread_mutex_unlock(&s->lock);
            if (pthread_create(&thread, NULL, connection_main, c) == 0) pthread_detach(thread);
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- begin and end */

static bool server_start(struct server *s, const char *root) {
    *s = (struct server){.commit = "1111111111111111111111111111111111111111"};
    snprintf(s->root, sizeof s->root, "%s", root);
    pthread_mutex_init(&s->lock, NULL);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t n = sizeof at;
        s->fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (s->fd[i] < 0 || bind(s->fd[i], (struct sockaddr *)&at, sizeof at) != 0 || listen(s->fd[i], 64) != 0 ||
            getsockname(s->fd[i], (struct sockaddr *)&at, &n) != 0)
            return false;
        s->port[i] = ntohs(at.sin_port);
    }
    return pthread_create(&s->thread, NULL, server_main, s) == 0;
}

static void server_stop(struct server *s) {
    s->quit = true;
    pthread_join(s->thread, NULL);
    for (int open = 1; open > 0;) {
        struct timespec pause = {0, 5000000};
        pthread_mutex_lock(&s->lock);
        open = s->open;
        pthread_mutex_unlock(&s->lock);
        if (open) nanosleep(&pause, NULL);
    }
    close(s->fd[0]);
    close(s->fd[1]);
    pthread_mutex_destroy(&s->lock);
}

#endif
