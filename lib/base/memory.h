/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Memory of the library itself: heads, slots, sheaves, regions. All of it comes
 * through here, so that tests can make any of these calls fail.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * If set, asked before each allocation below; true means "fail this one". Set by
 * tests only, while nobody allocates.
 */
extern bool (*sheaf_memory_fault)(size_t bytes);

/*
 * Memory with undefined contents, or NULL; for objects of the malloc backend. @p align
 * is a power of two; 1 stands for the alignment that malloc() has by itself.
 */
void *memory_alloc(size_t align, size_t bytes);

/* Zeroed memory aligned to @p align (a power of two, at least 8), or NULL. */
void *memory_zalloc(size_t align, size_t bytes);
/* Free what one of the two above gave. */
void memory_free(void *mem);

/* Pages from the system, zeroed, aligned to @p align (a power of two, at least a page), or NULL. */
void *memory_map(size_t align, size_t bytes);
void memory_unmap(void *mem, size_t bytes);

#endif
