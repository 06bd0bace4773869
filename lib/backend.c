/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The malloc backend: nothing but the C library, one call per object.
 *
 * It needs no memory of its own, because its context pointer is not a pointer but
 * the size and the alignment in one word:
 *
 *	 31                                  k   k-1      0
 *	+--------------------------------------+---+-------+
 *	|  size, a multiple of 2^k, doubled    | 1 | 0...0 |	align = 2^k
 *	+--------------------------------------+---+-------+
 *
 * A size that is a multiple of its alignment leaves the low bits free, and doubled
 * it leaves one more; the lowest set bit of the word is then the alignment. Align
 * 1 stands for malloc()'s own, where the size is kept to the byte, so that checkers
 * see overruns to the byte. A size of 2^30 and an alignment of 2^20 fit 32 bits.
 *
 * C promises max_align_t for any size, but some allocators give a small object only
 * the alignment that a type of its size can have: a size below its alignment is
 * raised to it.
 */
#include <sheaf/backend.h>

#include "base/memory.h"

#include <assert.h>
#include <errno.h>

#define SIZE_LIMIT ((size_t)1 << 30)
#define ALIGN_LIMIT ((size_t)1 << 20)
#define MALLOC_ALIGN _Alignof(max_align_t)

static_assert(sizeof(void *) >= 4, "the word of size and alignment has 32 bits");
static_assert(SIZE_LIMIT >= ALIGN_LIMIT, "rounding up to the alignment stays in the limit");

static size_t malloc_alloc_bulk(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	uintptr_t word = (uintptr_t)ctx;
	size_t align = word & -word;
	size_t size = (word - align) / 2;
	size_t got;

	(void)node;
	if (flags & SHEAF_NOWAIT)
		return 0;
	for (got = 0; got < n; got++) {
		objects[got] = memory_alloc(align, size);
		if (!objects[got])
			break;
	}
	return got;
}

static void malloc_free_bulk(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		memory_free(objects[i]);
}

static const struct sheaf_backend_ops malloc_ops = {
	.name = "malloc",
	.alloc_bulk = malloc_alloc_bulk,
	.free_bulk = malloc_free_bulk,
};

int sheaf_backend_malloc(struct sheaf_backend *backend, size_t size, size_t align)
{
	if (!size || size > SIZE_LIMIT || align > ALIGN_LIMIT || (align & (align - 1)))
		return -EINVAL;
	if (align > MALLOC_ALIGN) {
		size = (size + align - 1) & ~(align - 1);
	} else {
		if (size < align)
			size = align;
		align = 1;
	}
	backend->ops = &malloc_ops;
	backend->ctx = (void *)(size * 2 | align);
	return 0;
}
