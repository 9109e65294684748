/*
 * growth.c - does the memory of one place grow with the requests? Statistics over few, noisy, counted samples.
 *
 * In:      live samples at moments, requests up to then     Out: struct growth
 * Context: P
 *
 * What lives is known by samples, so a steady amount wanders and a growing one is uneven. Three questions, all of which
 * a leak answers with yes:
 *   - does it rise over the whole time? Mann-Kendall: how many pairs of moments are in rising order; no line assumed;
 *   - is the rise more than chance? A line through all points; what it rises by, G samples, has the error
 *     sqrt(G + 2 s^2): G of counting them, s the scatter around the line;
 *   - does it go on? The later half of the requests must still add its share. A cache that is full fails here.
 * Requests, not time, are the measure: a leak that nobody calls does not grow.
 */
#include <math.h>
#include <stddef.h>

#include "collector/growth.h"

struct line {
    double slope, scatter; /* scatter: variance around it */
};

static struct line line_through(const struct growth_point *p, int n)
{
    double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        x += (double)p[i].requests / n;
        y += (double)p[i].live_samples / n;
    }
    for (int i = 0; i < n; i++) {
        double dx = (double)p[i].requests - x, dy = (double)p[i].live_samples - y;
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    if (xx <= 0)
        return (struct line){0, 0};
    double rest = yy - xy * xy / xx;
    return (struct line){xy / xx, n > 2 && rest > 0 ? rest / (n - 2) : 0};
}

/* In standard deviations of what chance would give; ties count. */
static double mann_kendall(const struct growth_point *p, int n)
{
    double s = 0, ties = 0;
    for (int i = 0; i < n; i++) {
        int same = 0, before = 0;
        for (int k = 0; k < n; k++) {
            same += p[k].live_samples == p[i].live_samples;
            before += k < i && p[k].live_samples == p[i].live_samples;
            if (k > i)
                s += p[k].live_samples > p[i].live_samples   ? 1
                     : p[k].live_samples < p[i].live_samples ? -1
                                                             : 0;
        }
        if (!before) /* each group of equal ones once */
            ties += same * (same - 1.0) * (2.0 * same + 5);
    }
    double variance = (n * (n - 1.0) * (2.0 * n + 5) - ties) / 18;
    if (variance <= 0 || s == 0)
        return 0;
    return (s > 0 ? s - 1 : s + 1) / sqrt(variance);
}

/* Samples more in the later half of the requests, by a line through its points. */
static double grown_lately(const struct growth_point *p, int n, double *scatter)
{
    double first = (double)p[0].requests, last = (double)p[n - 1].requests, middle = (first + last) / 2;
    int from = 0;
    while (from < n - 3 && (double)p[from].requests < middle)
        from++;
    struct line late = line_through(p + from, n - from);
    *scatter = late.scatter;
    return late.slope * (last - middle);
}

static enum growth_verdict judge(struct growth *g, const struct growth_point *p, double trend, double scatter)
{
    double late_scatter, lately = grown_lately(p, g->points, &late_scatter), share = g->grown / 2;
    double strength = g->grown > 0 ? g->grown / sqrt(g->grown + 2 * scatter) : 0;
    bool rising = trend >= 1.64 && strength >= 2;
    if (g->samples < GROWTH_SAMPLES)
        return g->grown >= 1 && trend > 0 ? GROWTH_UNKNOWN : GROWTH_NONE;
    if (!rising)
        return GROWTH_NONE;
    double doubt = sqrt((lately > 0 ? lately : 0) + late_scatter + 1);
    if (lately < 0.3 * share && lately + 1.5 * doubt < share)
        return GROWTH_STOPPED;
    g->slowing = lately + doubt < 0.6 * share;
    return trend >= 2.3 && strength >= 3 && !g->slowing && lately > 0.5 * share && lately > 1.64 * doubt ? GROWTH_SURE : GROWTH_LIKELY;
}

struct growth growth_of(const struct growth_point *all, int count)
{
    enum { MOST = 512 };
    struct growth_point p[MOST];
    struct growth g = {.verdict = GROWTH_UNKNOWN};
    int step = count > MOST ? (count + MOST - 1) / MOST : 1;
    for (int i = (count - 1) % step; i >= 0 && i < count; i += step) { /* the last one is always among them */
        if (g.points && all[i].requests <= p[g.points - 1].requests) {
            p[g.points - 1] = all[i]; /* nothing was asked meanwhile: the later one counts */
            continue;
        }
        p[g.points++] = all[i];
    }
    if (g.points == 0)
        return g;
    g.samples = p[g.points - 1].live_samples;
    g.requests = p[g.points - 1].requests - p[0].requests;
    if (g.points < GROWTH_POINTS || g.requests == 0) {
        g.verdict = g.samples ? GROWTH_UNKNOWN : GROWTH_NONE;
        return g;
    }
    struct line line = line_through(p, g.points);
    g.grown = line.slope * (double)g.requests;
    if (g.samples && g.grown > 0) {
        double sample_bytes = (double)p[g.points - 1].live_bytes / (double)g.samples;
        g.bytes_each = line.slope * sample_bytes;
        g.error = sqrt(g.grown + 2 * line.scatter) / g.grown;
    }
    g.verdict = judge(&g, p, mann_kendall(p, g.points), line.scatter);
    return g;
}
