/*
 * holder.c - which processes hold a connection: dup, fork, close, exec and death decide when it ends.
 *
 * A connection ends when the last process that was seen with it closed it or died. A process that forked since the
 * connection was opened may have left it to a child that was not seen with it yet (PostgreSQL's backends, inetd): then
 * it lingers, held by nobody, until that child uses it, or could no longer.
 *
 * Context: C
 */
#include "collector/connection.h"

#include <string.h>

#define HOLDERS 2
#define LINGER_NS FORK_UNSEEN_NS   /* after its holder's death, whose children cannot be asked for any more */
#define TOLD_NS UINT64_C(2000000000) /* how long the word of a parent's wait is awaited */

/* --- who holds --------------------------------------------------------------------------------------------------------- */

struct holder *holder_of(struct connection *c, const struct image *image)
{
    for (int i = 0; i < HOLDERS; i++)
        if (image && c->holder[i].image == image)
            return &c->holder[i];
    return NULL;
}

static struct holder *holder_at(struct connections *cs, uint32_t link)
{
    return &cs->table[link >> 1].holder[link & 1];
}

static uint32_t link_of(const struct connections *cs, const struct connection *c, const struct holder *h)
{
    return connection_slot(cs, c) << 1 | (uint32_t)(h - c->holder);
}

static void link_holder(struct connections *cs, struct connection *c, struct holder *h, struct image *image)
{
    *h = (struct holder){.image = image, .descriptors = 1, .next = image->connections};
    if (h->next)
        holder_at(cs, h->next)->previous = link_of(cs, c, h);
    image->connections = link_of(cs, c, h);
}

static void unlink_holder(struct connections *cs, struct holder *h)
{
    if (h->previous)
        holder_at(cs, h->previous)->next = h->next;
    else
        h->image->connections = h->next;
    if (h->next)
        holder_at(cs, h->next)->previous = h->previous;
    h->image = NULL;
}

void holders_clear(struct connections *cs, struct connection *c)
{
    for (int i = 0; i < HOLDERS; i++)
        if (c->holder[i].image)
            unlink_holder(cs, &c->holder[i]);
}

static bool is_held(const struct connection *c)
{
    for (int i = 0; i < HOLDERS; i++)
        if (c->holder[i].image)
            return true;
    return false;
}

void holder_add(struct connections *cs, struct connection *c, struct image *image)
{
    if (!image || holder_of(c, image))
        return;
    struct holder *lingers = holder_of(c, &cs->nobody);
    if (lingers)
        unlink_holder(cs, lingers);
    for (int i = 0; i < HOLDERS; i++)
        if (!c->holder[i].image) {
            link_holder(cs, c, &c->holder[i], image);
            return;
        }
}

void holder_dup(struct connections *cs, struct connection *c, struct image *image)
{
    holder_add(cs, c, image);
    struct holder *h = holder_of(c, image);
    if (h)
        h->descriptors++;
}

/* --- ends -------------------------------------------------------------------------------------------------------------- */

/* `image` lets go of it. What may live on in its children lingers. */
static void leave(struct connections *cs, struct connection *c, struct image *image, uint64_t time_ns, bool killed)
{
    if (is_held(c))
        return;
    bool used = c->thread && (c->offset_image[IN] == image->number || c->offset_image[OUT] == image->number);
    if (!(killed && used) && image_has_children(cs->images, image, c->opened_ns, time_ns)) {
        c->left_by = image->number;
        c->left_ns = time_ns;
        link_holder(cs, c, &c->holder[0], &cs->nobody);
        return;
    }
    connection_end(cs, c, time_ns, killed);
}

void holder_close(struct connections *cs, struct connection *c, struct image *image, uint64_t time_ns)
{
    struct holder *h = holder_of(c, image);
    if (!h) {
        if (!is_held(c))
            connection_end(cs, c, time_ns, false);
        return;
    }
    if (--h->descriptors)
        return;
    unlink_holder(cs, h);
    leave(cs, c, image, time_ns, false);
}

/* Each of them without `image`, which has ended. */
static void leave_all(struct connections *cs, struct image *image, uint64_t time_ns, bool killed)
{
    while (image->connections) {
        struct connection *c = &cs->table[image->connections >> 1];
        unlink_holder(cs, holder_at(cs, image->connections));
        leave(cs, c, image, time_ns, killed);
    }
}

static void drop_image(void *to, struct image *image)
{
    struct connections *cs = to;
    if (image->end > IMAGE_DIED && !image->threads && !image->connections &&
        !image_has_children(cs->images, image, 0, cs->now_ns))
        image_drop(cs->images, image);
}

/* How it ended is known now. */
static void end_image(struct connections *cs, struct image *image, enum image_end how)
{
    image->end = (uint8_t)how;
    leave_all(cs, image, image->end_ns, how == IMAGE_KILLED);
}

static bool conclude(struct connections *cs, struct image *image, bool at_last)
{
    if (image->signal > 0)
        end_image(cs, image, IMAGE_KILLED);
    else if (image->exit_code >= 0 || image->exiting)
        end_image(cs, image, IMAGE_EXITED);
    else if (at_last)
        end_image(cs, image, IMAGE_KILLED); /* it never called exit, and nobody says how it died */
    return image->end != IMAGE_DIED;
}

/* --- facts --------------------------------------------------------------------------------------------------------------- */

static void on_process(struct connections *cs, const struct item *item)
{
    const struct fact *f = item->fact;
    struct image *image = image_make(cs->images, item->process), *parent = NULL;
    if (!image)
        return;
    image->pid = f->pid;
    image->parent = f->parent_process;
    if (f->parent_process)
        parent = image_find(cs->images, f->parent_process);
    if (parent)
        image_child_seen(cs->images, parent, f->pid, item->process, item->time_ns);
    else if ((parent = image_of_pid(cs->images, f->parent)))
        image_child_gone(parent, f->pid); /* it executed something: its copies are gone, or have new ids */
}

static void on_process_end(struct connections *cs, const struct item *item)
{
    const struct fact *f = item->fact;
    struct image *image = image_make(cs->images, item->process);
    if (!image || image->end != IMAGE_LIVES)
        return;
    activity_image_end(cs->activity, image, &f->total);
    image->end = IMAGE_DIED;
    image->end_ns = item->time_ns;
    if (f->exit_code >= 0)
        image->exit_code = f->exit_code;
    if (f->signal > 0)
        image->signal = f->signal;
    if (f->replaced)
        end_image(cs, image, IMAGE_REPLACED);
    else
        conclude(cs, image, false);
}

void holder_reaped(struct connections *cs, int32_t pid, int32_t exit_code, int32_t signal, uint64_t time_ns)
{
    struct image *image = image_of_pid(cs->images, pid);
    (void)time_ns;
    if (!image)
        return;
    image->exit_code = exit_code;
    image->signal = signal;
    if (image->end == IMAGE_DIED)
        conclude(cs, image, false);
}

void holder_image_fact(struct connections *cs, const struct item *item)
{
    const struct fact *f = item->fact;
    struct image *image;
    if (f->kind == FACT_PROCESS)
        on_process(cs, item);
    else if (f->kind == FACT_PROCESS_END)
        on_process_end(cs, item);
    else if (f->kind == FACT_REAPED)
        holder_reaped(cs, f->pid, f->exit_code, f->signal, item->time_ns);
    else if ((image = image_make(cs->images, item->process)))
        activity_told(image, &f->total);
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

static void end_lingering(struct connections *cs, uint64_t time_ns, bool last)
{
    for (uint32_t link = cs->nobody.connections, next; link; link = next) {
        struct connection *c = &cs->table[link >> 1];
        next = holder_at(cs, link)->next;
        const struct image *image = image_find(cs->images, c->left_by);
        bool may_live = image ? image_has_children(cs->images, image, c->opened_ns, time_ns)
                              : time_ns < c->left_ns + LINGER_NS;
        if (!may_live || last) /* its own process let go of it: it is not in flight */
            connection_end(cs, c, c->left_ns, false);
    }
}

struct pass {
    struct connections *cs;
    uint64_t time_ns;
    bool last;
};

static void conclude_old(void *to, struct image *image)
{
    struct pass *p = to;
    if (image->end == IMAGE_DIED)
        conclude(p->cs, image, p->last || p->time_ns >= image->end_ns + TOLD_NS);
    drop_image(p->cs, image);
}

void holder_tick(struct connections *cs, uint64_t time_ns, bool last)
{
    struct pass p = {cs, time_ns, last};
    image_each(cs->images, conclude_old, &p);
    end_lingering(cs, time_ns, last);
}
