/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* How objects come back. */
#ifndef SLAB_FREE_H
#define SLAB_FREE_H

#include "slab_types.h"

/* The free_bulk of the backend, see sheaf_slab_backend(). */
void slab_free_bulk(void *ctx, size_t n, void *const *objects);

#endif
