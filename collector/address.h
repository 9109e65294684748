/*
 * address.h - a socket address as text: "127.0.0.1:443", "[::1]:443", "unix:/run/x.sock".
 *
 * Context: P
 */
#ifndef SONDE_ADDRESS_H
#define SONDE_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT 160

/* `address` is a struct sockaddr of `len` bytes as the kernel gave it; what is none gives
 * "unknown". The text's length. */
size_t address_text(const uint8_t *address, size_t len, char to[ADDRESS_TEXT]);

#endif
