/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Attribute structs are versioned by their size, which is their first field. A
 * struct only ever grows at its end, and zero in a field means its default. So
 *
 *	a smaller source	is an older program: what it lacks reads as zero;
 *	a bigger source		is a newer program: it may only lack what is zero.
 *
 * Below the first release's size nothing can be told, and a source that says size
 * 0 has forgotten to fill it in: both are refused.
 */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

/*
 * Copy the attributes of a caller into a struct of today's layout.
 *
 * @dst, @dst_size: today's struct and its sizeof; wholly written on success
 * @src, @src_size: the caller's struct and what its size field says; not NULL
 * @min_size: size of the struct in the first release that had it, at most @dst_size
 *
 * The copy keeps the caller's size field. Returns 0, or -EINVAL with @dst unchanged.
 */
static inline int attr_copy(void *dst, size_t dst_size, const void *src, size_t src_size,
			    size_t min_size)
{
	const unsigned char *bytes = src;

	if (src_size < min_size)
		return -EINVAL;
	for (size_t i = dst_size; i < src_size; i++)
		if (bytes[i])
			return -EINVAL;
	memset(dst, 0, dst_size);
	memcpy(dst, src, src_size < dst_size ? src_size : dst_size);
	return 0;
}

/*
 * The other way: hand a struct of today's layout to a caller whose own may be shorter or longer.
 * What he has and we do not know reads as zero. Returns how much of his is known.
 */
static inline size_t struct_copy(void *dst, size_t dst_size, const void *src, size_t src_size)
{
	size_t known = dst_size < src_size ? dst_size : src_size;

	memcpy(dst, src, known);
	memset((char *)dst + known, 0, dst_size - known);
	return known;
}

#endif
