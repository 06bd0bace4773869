/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The module (shared object) that this library is part of. */
#ifndef BASE_MODULE_H
#define BASE_MODULE_H

#include <stdbool.h>

/*
 * From here on dlclose() does not unmap the module: threads that used it may be anywhere, and
 * on their way out they run its code, and the kernel reads its descriptors of sequences (the
 * thread's area names the last one even long after). False if there is no memory.
 */
bool module_pin(void);

#endif
