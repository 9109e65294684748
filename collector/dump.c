/*
 * dump.c - see dump.h. A line: time, process.thread, what, then key=value; captured bytes quoted, the rest as \xNN.
 *
 * Context: C
 */
#include "collector/dump.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "collector/recording.h"
#include "collector/told.h"

static const char *const event_names[EVENT_TYPE_COUNT] = {
    "none", "accept", "connect", "bind", "listen", "close", "shutdown", "dup",    "in",
    "out",  "more",   "turn",    "fork", "exec",   "exit",  "reaped",   "allocated", "freed", "locked", "object"};

static const char *const flag_names[] = {"block", "offset-unknown", "first", "unsure", "waited", "long", "no-clock", NULL};

static void print_bytes(const uint8_t *data, size_t len, FILE *out)
{
    putc('"', out);
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '"' || data[i] == '\\')
            fprintf(out, "\\%c", data[i]);
        else if (data[i] == '\r' || data[i] == '\n')
            fputs(data[i] == '\r' ? "\\r" : "\\n", out);
        else if (data[i] >= ' ' && data[i] < 127)
            putc(data[i], out);
        else
            fprintf(out, "\\x%02x", data[i]);
    }
    putc('"', out);
}

static void print_address(const uint8_t *address, size_t len, FILE *out)
{
    char text[INET6_ADDRSTRLEN] = "?";
    sa_family_t family = 0;
    if (len >= sizeof family)
        memcpy(&family, address, sizeof family);
    if (family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
        fprintf(out, "%s:%d", text, ntohs(in.sin_port));
    } else if (family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
        fprintf(out, "[%s]:%d", text, ntohs(in.sin6_port));
    } else if (family == AF_UNIX) {
        fputs("unix:", out);
        print_bytes(address + sizeof family, len - sizeof family, out);
    } else
        fputs("-", out);
}

static void print_told(const struct item *item, FILE *out)
{
    struct told_sample s;
    struct told_object o;
    uint64_t serial;
    if (told_sample(item, &s)) {
        static const char *const ends[] = {"whole", "cut", "unknown", "unsafe"};
        fprintf(out, " serial=%" PRIu64 " amount=%" PRIu64 " end=%s stack=", s.serial, s.amount, ends[s.end]);
        for (uint16_t i = 0; i < s.frames; i++)
            fprintf(out, "%s%" PRIx64, i ? "," : "", s.frame[i]);
    } else if (told_freed(item, &serial)) {
        fprintf(out, " serial=%" PRIu64, serial);
    } else if (told_object(item, &o)) {
        fprintf(out, " at=%" PRIx64 "-%" PRIx64 " bias=%" PRIx64 " build-id=", o.start, o.end, o.bias);
        for (uint16_t i = 0; i < o.build_id_len; i++)
            fprintf(out, "%02x", o.build_id[i]);
        fputs(" path=", out);
        print_bytes((const uint8_t *)o.path, o.path_len, out);
    } else {
        fputs(" damaged", out);
    }
}

static bool has_address(unsigned type)
{
    return type == EVENT_ACCEPT || type == EVENT_CONNECT || type == EVENT_BIND;
}

static void print_event(const struct item *item, FILE *out)
{
    const struct event *e = item->event;
    fprintf(out, "%s fd=%d connection=%" PRIx64 " offset=%" PRIu64 " result=%d took=%" PRIu64, event_names[e->type],
            e->descriptor, e->connection, e->offset, e->result,
            item->entry_ns && item->time_ns > item->entry_ns ? item->time_ns - item->entry_ns : 0);
    fprintf(out, " heap=%" PRIu64 "/%" PRIu64 "/%" PRIu64, item->total.allocated, item->total.freed,
            item->total.allocations);
    if (item->cpu_known)
        fprintf(out, " cpu=%" PRIu64, item->total.cpu_ns);
    if (item->total.lock_ns | item->total.disk_ns | item->total.sleep_ns)
        fprintf(out, " waits=%" PRIu64 "/%" PRIu64 "/%" PRIu64, item->total.lock_ns, item->total.disk_ns,
                item->total.sleep_ns);
    for (int i = 0; flag_names[i]; i++)
        if (e->flags & 1 << i)
            fprintf(out, " %s", flag_names[i]);
    if (told_is_one(e->type)) {
        print_told(item, out);
    } else if (has_address(e->type) && item->data_len >= sizeof(struct event_address)) {
        fputs(" address=", out);
        print_address(item->data + sizeof(struct event_address), item->data_len - sizeof(struct event_address), out);
    } else if (item->data_len) {
        fputs(" data=", out);
        print_bytes(item->data, e->head, out);
        if (e->tail) {
            fputs(" ... ", out);
            print_bytes(item->data + e->head, e->tail, out);
        }
    }
}

static void print_fact(const struct item *item, FILE *out)
{
    const struct fact *f = item->fact;
    fprintf(out, "fact-%s pid=%d parent=%d tid=%d", fact_name(f->kind), f->pid, f->parent, f->tid);
    if (f->kind == FACT_PROCESS)
        fprintf(out, f->name[0] ? " executable=%s started-as=%s" : " executable=%s", f->executable, f->name);
    if (f->kind == FACT_PROCESS_END || f->kind == FACT_REAPED || f->kind == FACT_COMMAND_END)
        fprintf(out, " exit=%d signal=%d", f->exit_code, f->signal);
    if (f->kind == FACT_PROCESS_TOTAL || f->kind == FACT_PROCESS_END)
        fprintf(out, " heap=%" PRIu64 "/%" PRIu64 "/%" PRIu64, f->total.allocated, f->total.freed, f->total.allocations);
    if (f->kind == FACT_PROCESS_TOTAL || f->kind == FACT_PROCESS_END)
        fprintf(out, " cpu=%" PRIu64, f->cpu_ns);
    if (f->kind == FACT_STREAM)
        fprintf(out, " written=%" PRIu64 " drained=%" PRIu64 " late=%" PRIu64, f->written, f->drained, f->late);
    if (f->kind == FACT_ADDRESS) {
        fprintf(out, " connection=%" PRIx64 " local=", f->connection);
        print_address(f->local, f->local_length, out);
        fputs(" remote=", out);
        print_address(f->remote, f->remote_length, out);
    }
    if (f->kind == FACT_DESCRIPTOR)
        fprintf(out, " connection=%" PRIx64 " stream=%d", f->connection, f->is_stream);
}

void dump_item(const struct item *item, uint64_t start_ns, FILE *out)
{
    int64_t since = (int64_t)(item->time_ns - start_ns);
    int64_t far = since < 0 ? -since : since;
    fprintf(out, "%c%" PRId64 ".%09" PRId64 " %u.%u ", since < 0 ? '-' : '+', far / 1000000000, far % 1000000000,
            item->process, item->thread);
    switch (item->kind) {
    case ITEM_EVENT:
        print_event(item, out);
        break;
    case ITEM_FACT:
        print_fact(item, out);
        break;
    case ITEM_GAP:
        fprintf(out, "gap lane=%u missing=%" PRIu64 " reason=%s", item->lane, item->missing, loss_names[item->loss]);
        break;
    case ITEM_TICK:
        fputs("tick", out);
    }
    fputs(item->late ? " late\n" : "\n", out);
}

int dump_file(const char *path, FILE *out)
{
    char why[512];
    struct recording_reader *r;
    struct item item;
    int rc = recording_open(path, &r, why, sizeof why);
    if (rc) {
        fprintf(stderr, "sonde: %s\n", why);
        return 1;
    }
    fprintf(out, "# run %s\n# settings %s\n", recording_run(r), recording_settings(r));
    struct source source = recording_source(r);
    while ((rc = source.next(source.self, &item)) > 0)
        dump_item(&item, recording_start_ns(r), out);
    if (rc != -ENODATA)
        fprintf(stderr, "sonde: %s\n", recording_fault(r));
    recording_free(r);
    return rc == -ENODATA ? 0 : 1;
}
