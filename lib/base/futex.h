/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Sleep on a 32-bit word. Chosen over semaphores and condition variables because
 * waking is one system call that a signal handler may make. */
#ifndef BASE_FUTEX_H
#define BASE_FUTEX_H

#include <stdint.h>

/* Monotonic time in nanoseconds. */
uint64_t clock_ns(void);

/* Sleep while *word is value, until woken, or until clock_ns() reaches deadline_ns
 * (0: no deadline). May return for no reason. */
void futex_wait(uint32_t *word, uint32_t value, uint64_t deadline_ns);

/* Wake all who sleep on the word. */
void futex_wake(uint32_t *word);

#endif
