/*
 * sanitizer.h - for tests: is this a build for the thread sanitizer? It makes a program ten to twenty times slower, and
 * its library's functions stand where libc's would.
 */
#ifndef SONDE_TEST_SANITIZER_H
#define SONDE_TEST_SANITIZER_H

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

#endif
