/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The page by which sheaf-stat looks into a process: a file in shared memory.
 *
 *	/dev/shm/libsheaf-stat.PID     mode 0600
 *	+------------+----------+----------+-----
 *	| page_head  | record 0 | record 1 | ...        struct sheaf_cache_stats each
 *	+------------+----------+----------+-----
 *
 * As long as the program has it, it holds a lock on all of it, fcntl(2): no other process has that lock, a
 * child does not inherit it, and it is gone after exit, exec and SIGKILL. A file without lock is left
 * over.
 *
 * Program and tool may be of different versions: head_bytes and record_bytes are what the program
 * has, and structs only ever grow at their end. Numbers in the head have fixed sizes.
 */
#ifndef CACHE_PAGE_H
#define CACHE_PAGE_H

#include <sheaf/stats.h>

#define PAGE_FOLDER "/dev/shm"
#define PAGE_PREFIX "libsheaf-stat."
#define PAGE_MAGIC "sheafst1"

struct page_head {
	char magic[8];
	uint32_t head_bytes;
	uint32_t record_bytes;
	/* Who looks adds one and wakes the word. The program writes it when it ends, too. */
	uint32_t request;
	/* Odd while the program writes; woken after each update. */
	uint32_t serial;
	/* The request that the last update answers, or a later one. */
	uint32_t served;
	uint32_t pid;
	/* Records that are there, and caches that had no room. */
	uint32_t count;
	uint32_t missing;
	/* Of the last update: when, by CLOCK_MONOTONIC; CPU time that it took; and how many there were. */
	uint64_t time_ns;
	uint64_t took_ns;
	uint64_t updates;
	/* sheaf_budget_used() */
	uint64_t budget_used;
	char program[32];
};

#endif
