/*
 * recording.c - see recording.h.
 *
 * In:      main.c (items that leave order.c)          Out: a file; main.c and dump.c read it as a struct source
 * Owns:    one block buffer each way.
 * Context: C
 * Failure: -errno. What is read is checked before it is used: sizes against the block, kinds against their enums, the
 *          block against its checksum.
 */
#include "collector/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/arena.h"

#define SETTINGS_MOST (1u << 20)
#define RECORD_MOST (sizeof(struct recording_item) + sizeof(struct fact) + EVENT_MAX_SIZE + 64)

struct recording_writer {
    int fd, error;
    struct recording_block block;
    uint8_t bytes[RECORDING_BLOCK_BYTES];
};

static int write_all(int fd, const void *from, size_t len)
{
    const uint8_t *at = from;
    while (len) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* An empty file or an older recording may be written over, nothing else. */
static int may_overwrite(int fd)
{
    struct stat st;
    char magic[8];
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EEXIST;
    if (st.st_size == 0)
        return 0;
    return pread(fd, magic, sizeof magic, 0) == sizeof magic && !memcmp(magic, RECORDING_MAGIC, 6) ? 0 : -EEXIST;
}

static struct recording_header make_header(const char *run, uint64_t start_ns, const char *settings)
{
    struct recording_header h = {.byte_order = 0x01020304,
                                 .version = RECORDING_VERSION,
                                 .header_bytes = sizeof h,
                                 .item_bytes = sizeof(struct recording_item),
                                 .event_bytes = sizeof(struct event),
                                 .fact_bytes = sizeof(struct fact),
                                 .settings_bytes = (uint32_t)strlen(settings),
                                 .start_ns = start_ns};
    memcpy(h.magic, RECORDING_MAGIC, sizeof h.magic);
    h.settings_crc = libdeflate_crc32(0, settings, h.settings_bytes);
    memcpy(h.run, run, strnlen(run, sizeof h.run));
    return h;
}

/* Where to go on in a recording that an earlier collector of this run began: behind its last whole block. 0: nowhere. */
static off_t end_of_run(int fd, const struct recording_header *ours)
{
    struct recording_header h;
    struct recording_block b;
    struct stat st;
    if (pread(fd, &h, sizeof h, 0) != sizeof h || fstat(fd, &st) || !ours->run[0] || memcmp(h.run, ours->run, sizeof h.run) != 0)
        return 0;
    h.start_ns = ours->start_ns;
    if (h.settings_bytes > SETTINGS_MOST || memcmp(h.magic, ours->magic, offsetof(struct recording_header, settings_bytes)) != 0)
        return 0;
    off_t at = (off_t)(sizeof h + h.settings_bytes);
    while (pread(fd, &b, sizeof b, at) == sizeof b && b.mark == RECORDING_BLOCK_MARK && b.bytes <= RECORDING_BLOCK_BYTES &&
           at + (off_t)(sizeof b + b.bytes) <= st.st_size)
        at += (off_t)(sizeof b + b.bytes);
    return at <= st.st_size ? at : 0;
}

static int begin_file(int fd, const struct recording_header *h, const char *settings)
{
    int rc = may_overwrite(fd);
    if (rc)
        return rc;
    off_t end = end_of_run(fd, h);
    if (fchmod(fd, 0600) || ftruncate(fd, end) || lseek(fd, end, SEEK_SET) != end)
        return -errno;
    if (end)
        return 0;
    rc = write_all(fd, h, sizeof *h);
    return rc ? rc : write_all(fd, settings, h->settings_bytes);
}

int recording_create(const char *path, const char *run, uint64_t start_ns, const char *settings,
                     struct recording_writer **out)
{
    struct recording_header h = make_header(run, start_ns, settings);
    struct recording_writer *w = malloc(sizeof *w);
    if (!w)
        return -ENOMEM;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : begin_file(fd, &h, settings);
    if (rc) {
        if (fd >= 0)
            close(fd);
        free(w);
        return rc;
    }
    w->fd = fd;
    w->error = 0;
    w->block = (struct recording_block){.mark = RECORDING_BLOCK_MARK};
    *out = w;
    return 0;
}

static void flush_block(struct recording_writer *w)
{
    if (!w->block.bytes || w->error)
        return;
    w->block.crc = libdeflate_crc32(0, w->bytes, w->block.bytes);
    w->error = write_all(w->fd, &w->block, sizeof w->block);
    if (!w->error)
        w->error = write_all(w->fd, w->bytes, w->block.bytes);
    w->block.bytes = w->block.items = 0;
}

int recording_write(struct recording_writer *w, const struct item *item)
{
    const void *body = item->kind == ITEM_EVENT ? (const void *)item->event
                       : item->kind == ITEM_FACT ? (const void *)item->fact
                                                 : NULL;
    size_t body_len = item->kind == ITEM_EVENT  ? sizeof *item->event
                      : item->kind == ITEM_FACT ? sizeof *item->fact
                                                : 0;
    size_t data_len = item->kind == ITEM_EVENT ? item->data_len : 0;
    size_t len = (sizeof(struct recording_item) + body_len + data_len + 7) & ~(size_t)7;
    if (w->error || len > RECORD_MOST)
        return w->error ? w->error : -EMSGSIZE;
    if (w->block.bytes + len > sizeof w->bytes)
        flush_block(w);
    uint8_t *at = w->bytes + w->block.bytes;
    struct recording_item r = {.bytes = (uint32_t)len,
                               .kind = (uint8_t)item->kind,
                               .late = item->late,
                               .loss = (uint16_t)item->loss,
                               .lane = item->lane,
                               .thread = item->thread,
                               .process = item->process,
                               .tid = item->tid,
                               .cpu_known = (item->cpu_known ? 1u : 0) | (item->ready ? 2u : 0),
                               .data_len = (uint32_t)data_len,
                               .time_ns = item->time_ns,
                               .entry_ns = item->entry_ns,
                               .ready_ns = item->ready_ns,
                               .missing = item->missing,
                               .total = item->total};
    memcpy(at, &r, sizeof r);
    at += sizeof r;
    if (body_len)
        memcpy(at, body, body_len);
    if (data_len)
        memcpy(at + body_len, item->data, data_len);
    memset(at + body_len + data_len, 0, len - sizeof r - body_len - data_len);
    w->block.bytes += (uint32_t)len;
    w->block.items++;
    return w->error;
}

int recording_close(struct recording_writer *w)
{
    flush_block(w);
    int rc = w->error;
    if (!rc)
        rc = write_all(w->fd, &(struct recording_block){.mark = RECORDING_END_MARK}, sizeof(struct recording_block));
    if (close(w->fd) && !rc)
        rc = -errno;
    free(w);
    return rc;
}

struct recording_reader {
    FILE *file;
    char *settings;
    char run[33], fault[256], path[256];
    uint64_t start_ns, offset; /* of the block being read, in the file */
    struct recording_block block;
    uint32_t at, given; /* in the block */
    bool failed, ended;
    struct event event; /* aligned copies of what is handed out */
    struct fact fact;
    uint8_t bytes[RECORDING_BLOCK_BYTES];
};

static int open_fault(const char *path, const char *what, int rc, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: %s", path, what);
    return rc;
}

static const char *header_fault(const struct recording_header *h, size_t got)
{
    if (got < sizeof h->magic || memcmp(h->magic, RECORDING_MAGIC, sizeof h->magic) != 0)
        return "is no recording of sonde";
    if (got < sizeof *h)
        return "is cut off within its header";
    if (h->byte_order != 0x01020304)
        return "was recorded on a machine of another byte order";
    if (h->version != RECORDING_VERSION || h->header_bytes != sizeof *h || h->item_bytes != sizeof(struct recording_item) ||
        h->event_bytes != sizeof(struct event) || h->fact_bytes != sizeof(struct fact))
        return "was recorded by another version of sonde; replay it with that one";
    if (h->settings_bytes > SETTINGS_MOST)
        return "has a damaged header";
    return NULL;
}

int recording_open(const char *path, struct recording_reader **out, char *why, size_t why_bytes)
{
    struct recording_header h;
    struct recording_reader *r = calloc(1, sizeof *r);
    if (!r)
        return open_fault(path, "no memory to read it", -ENOMEM, why, why_bytes);
    r->file = fopen(path, "re");
    if (!r->file) {
        int rc = -errno;
        free(r);
        return open_fault(path, strerror(-rc), rc, why, why_bytes);
    }
    const char *fault = header_fault(&h, fread(&h, 1, sizeof h, r->file));
    if (!fault) {
        r->settings = calloc(1, h.settings_bytes + 1);
        if (!r->settings || fread(r->settings, 1, h.settings_bytes, r->file) != h.settings_bytes)
            fault = "is cut off within its header";
        else if (libdeflate_crc32(0, r->settings, h.settings_bytes) != h.settings_crc)
            fault = "has a damaged header";
    }
    if (fault) {
        recording_free(r);
        return open_fault(path, fault, -EBADMSG, why, why_bytes);
    }
    memcpy(r->run, h.run, sizeof h.run);
    snprintf(r->path, sizeof r->path, "%s", path);
    r->start_ns = h.start_ns;
    r->offset = sizeof h + h.settings_bytes;
    *out = r;
    return 0;
}

static int fail(struct recording_reader *r, const char *what)
{
    snprintf(r->fault, sizeof r->fault, "%.150s: %s at byte %llu; what stands before it was used", r->path, what,
             (unsigned long long)(r->offset + sizeof r->block + r->at));
    r->failed = true;
    return -EBADMSG;
}

/* The next block into the buffer: 1, 0 at the end of the file, -EBADMSG. */
static int next_block(struct recording_reader *r)
{
    if (r->block.bytes)
        r->offset += sizeof r->block + r->block.bytes;
    r->at = r->given = 0;
    size_t got = fread(&r->block, 1, sizeof r->block, r->file);
    if (!got)
        return fail(r, "not complete (who wrote it was killed): it ends");
    if (got != sizeof r->block)
        return fail(r, "cut off");
    if (r->block.mark == RECORDING_END_MARK && !r->block.bytes)
        return 0;
    if (r->block.mark != RECORDING_BLOCK_MARK || !r->block.bytes || r->block.bytes > sizeof r->bytes)
        return fail(r, "damaged block");
    if (fread(r->bytes, 1, r->block.bytes, r->file) != r->block.bytes)
        return fail(r, "cut off");
    if (libdeflate_crc32(0, r->bytes, r->block.bytes) != r->block.crc)
        return fail(r, "damaged block (checksum)");
    return 1;
}

/* Checks the record at r->at and fills `out` from copies of it. */
static int take_record(struct recording_reader *r, struct item *out)
{
    struct recording_item i;
    size_t room = r->block.bytes - r->at;
    if (room < sizeof i)
        return fail(r, "damaged record");
    memcpy(&i, r->bytes + r->at, sizeof i);
    size_t body = i.kind == ITEM_EVENT ? sizeof r->event : i.kind == ITEM_FACT ? sizeof r->fact : 0;
    if (i.bytes > room || i.bytes % 8 || i.data_len > EVENT_MAX_SIZE || i.bytes < sizeof i + body + i.data_len ||
        i.kind > ITEM_TICK || i.loss >= LOSS_COUNT || i.lane >= ITEM_LANES_MAX)
        return fail(r, "damaged record");
    const uint8_t *from = r->bytes + r->at + sizeof i;
    memset(out, 0, sizeof *out);
    if (i.kind == ITEM_EVENT) {
        memcpy(&r->event, from, sizeof r->event);
        if ((uint32_t)r->event.head + r->event.tail > i.data_len || r->event.type == EVENT_NONE ||
            r->event.type >= EVENT_TYPE_COUNT)
            return fail(r, "damaged event");
        out->event = &r->event;
        out->data = from + sizeof r->event;
        out->data_len = i.data_len;
    } else if (i.kind == ITEM_FACT) {
        memcpy(&r->fact, from, sizeof r->fact);
        if (r->fact.kind > FACT_THREAD_BASE || r->fact.in_call >= CALL_COUNT || r->fact.local_length > sizeof r->fact.local ||
            r->fact.remote_length > sizeof r->fact.remote)
            return fail(r, "damaged fact");
        r->fact.executable[sizeof r->fact.executable - 1] = 0;
        r->fact.name[sizeof r->fact.name - 1] = 0;
        out->fact = &r->fact;
    }
    out->kind = i.kind;
    out->late = i.late;
    out->loss = i.loss;
    out->lane = i.lane;
    out->thread = i.thread;
    out->process = i.process;
    out->tid = i.tid;
    out->time_ns = i.time_ns;
    out->entry_ns = i.entry_ns;
    out->ready_ns = i.ready_ns;
    out->cpu_known = i.cpu_known & 1;
    out->ready = i.cpu_known & 2;
    out->missing = i.missing;
    out->total = i.total;
    r->at += i.bytes;
    r->given++;
    return 1;
}

static int next_item(void *self, struct item *out)
{
    struct recording_reader *r = self;
    if (r->failed)
        return -EBADMSG;
    if (r->at == r->block.bytes) {
        int rc = r->ended ? 0 : next_block(r);
        r->ended = !rc;
        if (rc <= 0)
            return rc ? rc : -ENODATA;
    }
    return take_record(r, out);
}

struct source recording_source(struct recording_reader *r)
{
    return (struct source){next_item, r};
}

const char *recording_settings(const struct recording_reader *r)
{
    return r->settings;
}

const char *recording_run(const struct recording_reader *r)
{
    return r->run;
}

uint64_t recording_start_ns(const struct recording_reader *r)
{
    return r->start_ns;
}

const char *recording_fault(const struct recording_reader *r)
{
    return r->failed ? r->fault : NULL;
}

void recording_free(struct recording_reader *r)
{
    if (r->file)
        fclose(r->file);
    free(r->settings);
    free(r);
}
