/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What is said about a wrong free, and to whom. */
#ifndef SLAB_MISUSE_H
#define SLAB_MISUSE_H

#include "slab_types.h"

/* Returns only if the backend has a callback for it; that must be called without a lock. */
void slab_report(const struct sheaf_slab *s, const void *object, enum sheaf_slab_misuse why);

#endif
