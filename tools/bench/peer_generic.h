/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Bulk operations and sections for those who have none. Each competitor gets its own copy,
 * so that the loop calls its functions directly, as a program would:
 *
 *	static ALLOC_BULK_LOOP(name_alloc_bulk, name_alloc)
 */
#ifndef BENCH_PEER_GENERIC_H
#define BENCH_PEER_GENERIC_H

#include "ops.h"

#define ALLOC_BULK_LOOP(name, alloc)                                                               \
	bool name(void *ctx, size_t n, void **objects)                                             \
	{                                                                                          \
		size_t i;                                                                          \
                                                                                                   \
		for (i = 0; i < n; i++) {                                                          \
			objects[i] = alloc(ctx);                                                   \
			if (!objects[i])                                                           \
				return false;                                                      \
		}                                                                                  \
		return true;                                                                       \
	}

#define FREE_BULK_LOOP(name, free_one)                                                             \
	void name(void *ctx, size_t n, void **objects)                                             \
	{                                                                                          \
		size_t i;                                                                          \
                                                                                                   \
		for (i = 0; i < n; i++)                                                            \
			free_one(ctx, objects[i]);                                                 \
	}

/* The worst case in bulk, and what is left over back in bulk. */
#define SECTION_BEGIN_BULK(name, alloc_bulk)                                                       \
	bool name(void *ctx, struct bench_section *section, unsigned bound)                        \
	{                                                                                          \
		section->n = bound;                                                                \
		section->next = 0;                                                                 \
		return alloc_bulk(ctx, bound, section->objects);                                   \
	}

#define SECTION_ALLOC_BULK(name)                                                                   \
	void *name(void *ctx, struct bench_section *section)                                       \
	{                                                                                          \
		(void)ctx;                                                                         \
		return section->objects[section->next++];                                          \
	}

#define SECTION_END_BULK(name, free_bulk)                                                          \
	void name(void *ctx, struct bench_section *section)                                        \
	{                                                                                          \
		free_bulk(ctx, section->n - section->next, section->objects + section->next);      \
	}

#endif
