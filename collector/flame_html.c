/*
 * flame_html.c - a flame graph as one page that needs nothing else: no network, no other file.
 *
 * In:      flame.c, flame_page.html (linked in)  Out: FILE
 * Context: P but for the FILE
 * All names are data: as text they are escaped, in the page's JSON they can end no element (json_text.c), and its
 * script only ever sets textContent.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/flame.h"
#include "collector/json_text.h"
#include "collector/report_page.h"

extern const char flame_page[], flame_page_end[];
__asm__(".pushsection .rodata\n"
        ".globl flame_page, flame_page_end\n"
        "flame_page: .incbin \"collector/flame_page.html\"\n"
        "flame_page_end: .byte 0\n"
        ".popsection\n");

static void put_escaped(const char *text, FILE *to)
{
    char clean[2048];
    page_clean(clean, sizeof clean, text, true);
    for (const char *s = clean; *s; s++)
        switch (*s) {
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '&':
            fputs("&amp;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        case '\'':
            fputs("&#39;", to);
            break;
        default:
            fputc(*s, to);
        }
}

static void put_title(const struct flame *f, FILE *to)
{
    static const char *const what[] = {"bytes allocated", "bytes retained", "bytes live", "waiting for locks"};
    put_escaped("sonde: ", to);
    put_escaped(what[f->by], to);
    if (f->route) {
        put_escaped(", ", to);
        put_escaped(f->route, to);
    }
}

static void put_command(const struct report *r, FILE *to)
{
    cJSON *command = r->command ? cJSON_Parse(r->command) : NULL;
    const cJSON *word;
    int n = 0;
    cJSON_ArrayForEach(word, command)
    {
        if (!cJSON_IsString(word))
            continue;
        put_escaped(n++ ? " " : "; ", to);
        put_escaped(n == 1 ? page_basename(word->valuestring) : word->valuestring, to);
    }
    cJSON_Delete(command);
}

static void put_summary(const struct flame *f, FILE *to)
{
    char text[512];
    flame_summary(f, text, sizeof text, true);
    put_escaped(text, to);
    if (f->by == FLAME_RETAINED) {
        snprintf(text, sizeof text, "; retained: it lived %" PRIu64 " s past the end of its request", f->r->retained_s);
        put_escaped(text, to);
    }
    put_command(f->r, to);
}

/* Depth first, so that the page finds siblings side by side and in order. */
static void put_nodes(const struct flame *f, FILE *to)
{
    uint32_t *place = calloc(f->nodes, sizeof *place), written = 0;
    for (uint32_t at = 0, done = 0; place && !done;) {
        const struct flame_node *n = &f->node[at];
        fprintf(to, "%s%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, written ? "," : "", n->name, place[n->parent],
                n->all, n->self, n->samples);
        place[at] = written++;
        if (n->child) {
            at = n->child;
            continue;
        }
        while (at && !f->node[at].sibling)
            at = f->node[at].parent;
        done = at == 0;
        at = f->node[at].sibling;
    }
    free(place);
}

static void put_data(const struct flame *f, FILE *to)
{
    fprintf(to, "{\"unit\":\"%s\",\"word\":\"%s\",\"names\":[", flame_is_time(f) ? "ns" : "bytes",
            flame_is_time(f) ? "waited" : flame_word(f->by));
    for (uint32_t i = 0; i < f->names; i++) {
        if (i)
            fputc(',', to);
        json_put_text(to, f->name[i]);
    }
    fputs("],\"node\":[", to);
    put_nodes(f, to);
    fputs("]}", to);
}

void flame_put_html(const struct flame *f, FILE *to)
{
    static const struct {
        const char *mark;
        void (*put)(const struct flame *, FILE *);
    } marks[] = {{"@TITLE@", put_title}, {"@SUMMARY@", put_summary}, {"@DATA@", put_data}};
    const char *at = flame_page;
    while (at < flame_page_end) {
        const char *next = flame_page_end;
        size_t which = 0;
        for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
            const char *found = memmem(at, (size_t)(flame_page_end - at), marks[i].mark, strlen(marks[i].mark));
            if (found && found < next) {
                next = found;
                which = i;
            }
        }
        fwrite(at, 1, (size_t)(next - at), to);
        if (next == flame_page_end)
            break;
        marks[which].put(f, to);
        at = next + strlen(marks[which].mark);
    }
}
