/*
 * prototypes.h - wrapped functions that no header declares (the fortified kin), or not those of every libc.
 */
#ifndef SONDE_PROTOTYPES_H
#define SONDE_PROTOTYPES_H

#include <sys/types.h>

#endif
