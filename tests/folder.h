/*
 * folder.h - a folder of the test's own: set-up and tear-down for cmocka.
 */
#ifndef SONDE_TESTS_FOLDER_H
#define SONDE_TESTS_FOLDER_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static char folder[PATH_MAX / 2];

static inline int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/sonde-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

#endif
