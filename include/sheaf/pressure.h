/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/pressure.h
 * Giving memory back when the system is short of it: a thread that sleeps until the kernel says so,
 * and then calls sheaf_trim(). Optional; nothing watches unless it is asked to.
 */
#ifndef SHEAF_PRESSURE_H
#define SHEAF_PRESSURE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** What to watch; zero means default. */
struct sheaf_pressure_attr {
	/** sizeof(struct sheaf_pressure_attr); an older program has a smaller one. */
	size_t size;
	/** A pressure file of the kernel (Documentation: PSI), of the system or of a control group:
	 *  "memory.pressure" there. Default: /proc/pressure/memory, unless @p events is set. */
	const char *psi;
	/** When it is to tell; default "some 150000 2000000": tasks stalled for 150 ms of two
	 *  seconds. What windows an unprivileged process may use is the kernel's to say. */
	const char *trigger;
	/** The file "memory.events" of a control group: each time its count "high" has grown, the
	 *  group was above memory.high. Watched as well as @p psi, if both are set. */
	const char *events;
	/** Bytes that sheaf_trim() is asked for each time; default: all. */
	size_t bytes;
};

/**
 * Watch for memory pressure from now on, on a thread of the library with all signals blocked.
 * One watch in a process. After fork() the child has none.
 *
 * @param attr what to watch; not kept; NULL means defaults
 *
 * Context: any thread; may block. Ordering: none. Progress: blocking.
 * Return: 0; -EBUSY if there is a watch; -EINVAL if an attribute is out of range; -ENOMEM;
 *	else what open(2), write(2), inotify(7) or pthread_create(3) said: -ENOENT on a kernel
 *	without pressure files, -EACCES, -EPERM, -EAGAIN. Nothing is watched then.
 */
int sheaf_pressure_start(const struct sheaf_pressure_attr *attr);

/**
 * End the watch.
 *
 * Context: any thread but in a callback of a cache; waits for a sheaf_trim() that is being done.
 * Ordering: acquires what the thread did. Progress: blocking.
 * Return: how many times it has called sheaf_trim(); 0 if there was no watch.
 */
uint64_t sheaf_pressure_stop(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
