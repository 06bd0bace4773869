/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What every test program needs: a seed, a generator, a way to run, faults. */
#ifndef TESTS_COMMON_H
#define TESTS_COMMON_H

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The seed of this run: SHEAF_SEED, or the clock. Printed when first asked for. */
uint64_t test_seed(void);

/* A generator of 64-bit numbers; *state must not be 0. */
uint64_t test_random(uint64_t *state);

/* A number below @p n. */
uint64_t test_below(uint64_t *state, uint64_t n);

/* Should tests do more than fits into seconds? SHEAF_FULL is set, to how many times as much: tools/check
 * --full sets it, and a night of SHEAF_FULL=100 has nothing against it. */
bool test_full(void);

/* @p quick, as many times as SHEAF_FULL says. */
unsigned test_more(unsigned quick);

/* Is this a build or a run in which each step costs ten times or more? SHEAF_SLOW is set
 * where it cannot be seen from inside, on an emulated machine. */
bool test_slow(void);

/* Does AddressSanitizer, or ThreadSanitizer, watch this build? */
bool test_asan(void);
bool test_tsan(void);

/* Does Valgrind run this? It reports what threads of the parent had in each child, and does not
 * follow into other programs. */
bool test_valgrind(void);

/* test_more(), but a tenth on slow builds. */
unsigned test_rounds(unsigned quick);

/* Run all cases; for main() to return. */
int test_run(Suite *suite);

/* Run n threads of fn(&args[i]) and join them; aborts if a thread cannot be made. */
void test_threads(unsigned n, void *(*fn)(void *), void *args, size_t arg_bytes);

/* Does fn(arg), run in a child process, abort with this text on stderr? */
bool test_dies(void (*fn)(void *arg), void *arg, const char *text);

/* Exit code of a child that cannot try its case: what that takes is not to be had here. */
#define TEST_NOT_HERE 77

/* Did a child that tried a case end well? With test_full() it has to have tried, but on slow builds,
 * whose sanitizer or emulator may be in the way. Says of a case that was not tried that it was not. */
bool test_child_good(int status, const char *name);

/* Milliseconds since some moment, and a sleep. */
uint64_t test_ms(void);
void test_sleep_ms(unsigned ms);

/* For limits of what never ends if it is wrong, looked at again and again: the same, but of the time since the last
 * look, by any thread, 50 ms count at most. A whole machine may stand still for longer than a test is patient. */
uint64_t test_patience_ms(void);

/* Between two looks at what another thread does. Not sched_yield() alone: who yields in a loop is
 * put back further each time, and may then wait for seconds beside others who do not. */
void test_pause(void);

/* Make the n-th allocation of the library from now fail (0: the next), and, if
 * `all`, each one after it. */
void test_fail_nth(unsigned n, bool all);

/* Stop failing. True if an allocation was failed since test_fail_nth(). */
bool test_fail_end(void);

#endif
