/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What an address is to slab backends, for who wants to tell of it. */
#ifndef SLAB_LOCATE_H
#define SLAB_LOCATE_H

#include <sheaf/slab.h>

/* The slab backend that this one is; NULL if it is of another kind. */
struct sheaf_slab *slab_of(const struct sheaf_backend *backend);

struct slab_found {
	/* To be compared: it may be gone, unless the caller knows better. */
	const struct sheaf_slab *owner;
	/* The object that the address is in, as large as the stride; NULL if it is in none. */
	void *object;
	/* Handed out and not back. */
	bool out;
};

/* Is the address in the memory of any slab backend? Blocks for a moment. Reads nothing near it. */
bool slab_locate(const void *address, struct slab_found *found);

#endif
