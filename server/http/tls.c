#include "server/http/tls.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "server/http/connection.h"

/* Of these what GnuTLS holds to be good. */
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

enum {
    CHAIN_MAX = 16,          /* certificates; two or three are usual */
    FILE_BYTES_MAX = 1 << 20 /* some kilobytes are usual */
};

struct mbd_tls {
    char *cert_path, *key_path;
    gnutls_datum_t cert, key; /* the files; PEM */
};

static void wipe(gnutls_datum_t *d)
{
    if (d->data) {
        gnutls_memset(d->data, 0, d->size);
    }
    gnutls_free(d->data);
    *d = (gnutls_datum_t) { 0 };
}

/* ---- files ------------------------------------------------------------------------------- */

static enum mb_status read_file(const char *option, const char *path, gnutls_datum_t *ret,
                                struct mb_error *err)
{
    struct stat sb;
    if (stat(path, &sb) < 0) {
        return mb_fail(err, errno == ENOENT ? MB_E_NOTFOUND : MB_E_IO, errno, "%s: '%s'",
                       option, path);
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size > FILE_BYTES_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: '%s' is no file of PEM", option, path);
    }
    int code = gnutls_load_file(path, ret);
    if (code < 0) {
        return mb_fail(err, MB_E_IO, errno, "%s: '%s': %s", option, path,
                       gnutls_strerror(code));
    }
    return MB_OK;
}

/* Are they a chain and its key? */
static enum mb_status check_pair(const struct mbd_tls *t, const gnutls_datum_t *cert,
                                 const gnutls_datum_t *key, struct mb_error *err)
{
    gnutls_certificate_credentials_t c;
    if (gnutls_certificate_allocate_credentials(&c) < 0) {
        return mb_fail(err, MB_E_NOMEM, 0, "tls-cert: no memory");
    }
    gnutls_x509_crt_t *chain = NULL;
    gnutls_privkey_t private = NULL;
    unsigned n = 0;
    enum mb_status st = MB_OK;
    int code = gnutls_x509_crt_list_import2(&chain, &n, cert, GNUTLS_X509_FMT_PEM, 0);
    if (code < 0 || n > CHAIN_MAX) {
        st = mb_fail(err, MB_E_INVALID, 0, "tls-cert: '%s': %s", t->cert_path,
                     code < 0 ? gnutls_strerror(code) : "too many certificates");
    }
    if (st == MB_OK && (code = gnutls_privkey_init(&private)) == 0 &&
        (code = gnutls_privkey_import_x509_raw(private, key, GNUTLS_X509_FMT_PEM, NULL, 0)) <
            0) {
        st = mb_fail(err, MB_E_INVALID, 0, "tls-key: '%s': %s", t->key_path,
                     gnutls_strerror(code));
    }
    if (st == MB_OK && (code = gnutls_certificate_set_x509_key_mem2(
                            c, cert, key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0) {
        st = mb_fail(err, MB_E_INVALID, 0, "tls-cert, tls-key: '%s' and '%s': %s", t->cert_path,
                     t->key_path, gnutls_strerror(code));
    }
    for (unsigned i = 0; i < n; i++) {
        gnutls_x509_crt_deinit(chain[i]);
    }
    gnutls_free(chain);
    if (private) {
        gnutls_privkey_deinit(private);
    }
    gnutls_certificate_free_credentials(c);
    return st;
}

/* Whoever asks will refuse it, but may also know better. */
static void warn_of_time(const struct mbd_tls *t, const struct mbd_log *log)
{
    gnutls_x509_crt_t crt;
    if (gnutls_x509_crt_init(&crt) < 0) {
        return;
    }
    time_t now = time(NULL);
    char day[32] = "";
    if (gnutls_x509_crt_import(crt, &t->cert, GNUTLS_X509_FMT_PEM) == 0) {
        time_t from = gnutls_x509_crt_get_activation_time(crt);
        time_t to = gnutls_x509_crt_get_expiration_time(crt);
        struct tm tm;
        (void) strftime(day, sizeof day, "%F", gmtime_r(now > to ? &to : &from, &tm));
        if (now > to || now < from) {
            mbd_log_message(log, MBD_LOG_WARN, "tls", "tls-cert: '%s' is not valid %s %s",
                            t->cert_path, now > to ? "since" : "before", day);
        }
    }
    gnutls_x509_crt_deinit(crt);
}

enum mb_status mbd_tls_reload(struct mbd_tls *t, const struct mbd_log *log,
                              struct mb_error *err)
{
    gnutls_datum_t cert = { 0 }, key = { 0 };
    enum mb_status st = read_file("tls-cert", t->cert_path, &cert, err);
    if (st == MB_OK) {
        st = read_file("tls-key", t->key_path, &key, err);
    }
    if (st == MB_OK) {
        st = check_pair(t, &cert, &key, err);
    }
    if (st != MB_OK) {
        wipe(&cert);
        wipe(&key);
        return st;
    }
    wipe(&t->cert);
    wipe(&t->key);
    t->cert = cert;
    t->key = key;
    warn_of_time(t, log);
    return MB_OK;
}

enum mb_status mbd_tls_new(const char *cert, const char *key, const struct mbd_log *log,
                           struct mbd_tls **ret, struct mb_error *err)
{
    struct mbd_tls *t = calloc(1, sizeof *t);
    if (t) {
        t->cert_path = strdup(cert);
        t->key_path = strdup(key);
    }
    if (!t || !t->cert_path || !t->key_path) {
        mbd_tls_free(t);
        return mb_fail(err, MB_E_NOMEM, 0, "tls-cert: no memory");
    }
    enum mb_status st = mbd_tls_reload(t, log, err);
    if (st != MB_OK) {
        mbd_tls_free(t);
        return st;
    }
    *ret = t;
    return MB_OK;
}

void mbd_tls_free(struct mbd_tls *t)
{
    if (!t) {
        return;
    }
    wipe(&t->cert);
    wipe(&t->key);
    free(t->cert_path);
    free(t->key_path);
    free(t);
}

/* ---- connections ------------------------------------------------------------------------- */

static gnutls_session_t session_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return info ? info->tls_session : NULL;
}

/* libmicrohttpd has no argument for the callback; the session has room for a pointer, which it uses
 * for pre-shared keys only. */
void mbd_tls_begin(struct MHD_Connection *mhd, struct mbd_tls *t)
{
    gnutls_session_t session = session_of(mhd);
    if (session) {
        gnutls_session_set_ptr(session, t);
    }
}

static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                    gnutls_pcert_st **certs, unsigned *n_certs, gnutls_ocsp_data_st **ocsp,
                    unsigned *n_ocsp, gnutls_privkey_t *key, unsigned *flags)
{
    (void) info;
    const struct mbd_tls *t = gnutls_session_get_ptr(session);
    gnutls_pcert_st *chain = gnutls_calloc(CHAIN_MAX, sizeof *chain);
    gnutls_privkey_t private = NULL;
    unsigned n = CHAIN_MAX;
    if (!t || !chain || gnutls_privkey_init(&private) < 0) {
        gnutls_free(chain);
        return -1;
    }
    if (gnutls_pcert_list_import_x509_raw(chain, &n, &t->cert, GNUTLS_X509_FMT_PEM, 0) < 0) {
        n = 0;
    }
    if (n == 0 ||
        gnutls_privkey_import_x509_raw(private, &t->key, GNUTLS_X509_FMT_PEM, NULL, 0) < 0) {
        for (unsigned i = 0; i < n; i++) {
            gnutls_pcert_deinit(&chain[i]);
        }
        gnutls_free(chain);
        gnutls_privkey_deinit(private);
        return -1;
    }
    *certs = chain;
    *n_certs = n;
    *ocsp = NULL;
    *n_ocsp = 0;
    *key = private;
    *flags = GNUTLS_CERT_RETR_DEINIT_ALL; /* they are the handshake's now */
    return 0;
}

struct MHD_OptionItem *mbd_tls_options(void)
{
    static struct MHD_OptionItem items[] = {
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) (uintptr_t) PRIORITIES },
        { MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, NULL },
        { MHD_OPTION_END, 0, NULL },
    };
    union {
        gnutls_certificate_retrieve_function3 *fn;
        void *value; /* as libmicrohttpd reads it */
    } callback = { retrieve };
    items[1].ptr_value = callback.value;
    return items;
}

void mbd_tls_send(struct MHD_Connection *mhd, const char *text, size_t n)
{
    gnutls_session_t session = session_of(mhd);
    if (session) {
        (void) gnutls_record_send(session, text, n);
    }
}
