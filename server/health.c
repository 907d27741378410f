#include "server/health.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A connected socket, every operation of which ends in time; -1 with errno. An address that stands
 * for all of the machine's is a way to the machine itself. */
static int open_connection(const struct mbd_address *a)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = { 0 };
    bool six = strchr(a->host, ':') != NULL;
    at.any.sa_family = six ? AF_INET6 : AF_INET;
    *(six ? &at.v6.sin6_port : &at.v4.sin_port) = htons(a->port);
    (void) inet_pton(at.any.sa_family, a->host,
                     six ? (void *) &at.v6.sin6_addr : (void *) &at.v4.sin_addr);
    struct timeval patience = { .tv_sec = MBD_HEALTH_TIMEOUT_MS / 1000 };
    int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
        connect(fd, &at.any, six ? sizeof at.v6 : sizeof at.v4) < 0) {
        int why = errno;
        if (fd >= 0) {
            (void) close(fd);
        }
        errno = why;
        return -1;
    }
    return fd;
}

static const char question[] =
    "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/* The start of the reply, terminated; false with errno when none came. */
static bool ask(int fd, char *ret, size_t n)
{
    if (send(fd, question, sizeof question - 1, MSG_NOSIGNAL) < 0) {
        return false;
    }
    size_t have = 0;
    ssize_t got = 1;
    while (have < n - 1 && (got = recv(fd, ret + have, n - 1 - have, 0)) > 0) {
        have += (size_t) got;
    }
    ret[have] = '\0';
    return got >= 0;
}

/* The same by TLS. Nobody vouches for the certificate: it is of this machine, nothing secret is said,
 * and a name or date that others refuse is no reason to end a daemon that answers. */
static bool ask_by_tls(int fd, char *ret, size_t n)
{
    gnutls_session_t s;
    gnutls_certificate_credentials_t c;
    if (gnutls_certificate_allocate_credentials(&c) < 0) {
        return false;
    }
    if (gnutls_init(&s, GNUTLS_CLIENT) < 0) {
        gnutls_certificate_free_credentials(c);
        return false;
    }
    (void) gnutls_set_default_priority(s);
    (void) gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, c);
    gnutls_transport_set_int(s, fd);
    gnutls_handshake_set_timeout(s, MBD_HEALTH_TIMEOUT_MS);
    ssize_t got;
    do {
        got = gnutls_handshake(s);
    } while (got < 0 && !gnutls_error_is_fatal((int) got));
    got = got == 0 ? gnutls_record_send(s, question, sizeof question - 1) : got;
    size_t have = 0;
    while (got > 0 && have < n - 1 &&
           (got = gnutls_record_recv(s, ret + have, n - 1 - have)) > 0) {
        have += (size_t) got;
    }
    ret[have] = '\0';
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(c);
    errno = got < 0 ? EPROTO : 0;
    return got >= 0;
}

enum mb_status mbd_health_ask(const struct mbd_options *o, struct mb_error *err)
{
    const struct mbd_address *a = o->ops_listen.host[0] ? &o->ops_listen : &o->listen;
    if (a->port == 0) {
        return mb_fail(err, MB_E_INVALID, 0, "check-health: port 0 does not say where to ask");
    }
    char reply[1024] = "";
    int fd = open_connection(a);
    bool tls = o->tls_cert && a == &o->listen;
    bool answered =
        fd >= 0 && (tls ? ask_by_tls(fd, reply, sizeof reply) : ask(fd, reply, sizeof reply));
    int why = errno;
    if (fd >= 0) {
        (void) close(fd);
    }
    if (!answered) {
        return mb_fail(err, MB_E_IO, why, "check-health: %s port %u", a->host,
                       (unsigned) a->port);
    }
    if (strncmp(reply, "HTTP/1.1 200 ", 13) != 0) {
        const char *body = strstr(reply, "\r\n\r\n");
        return mb_fail(err, MB_E_IO, 0, "check-health: %.*s: %.*s",
                       (int) strcspn(reply, "\r\n"), reply,
                       body ? (int) strcspn(body + 4, "\r\n") : 0, body ? body + 4 : "");
    }
    return MB_OK;
}
