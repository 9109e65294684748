/* symbols_memory.h - part of the list in symbols.h: the malloc family, processes, threads. */
/* clang-format off */
