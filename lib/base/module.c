/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * libsheaf.so says at link time (-z nodelete) that it stays. The static library may be part of
 * any module, so the module is asked for at run time. Programs without a dynamic linker, and C
 * libraries that never unmap, have nothing to pin: the references are weak.
 */
#define _GNU_SOURCE
#include "base/module.h"

#include "base/atomic.h"

#include <dlfcn.h>
#include <stddef.h>

#ifdef RTLD_NODELETE
#include <link.h>

#pragma weak dladdr1
#pragma weak dlopen

static bool pin(void)
{
	struct link_map *map = NULL;
	Dl_info info;

	if (!dladdr1 || !dlopen)
		return true;
	/* Not known, or the program itself, which has no name here. */
	if (!dladdr1((void *)&module_pin, &info, (void **)&map, RTLD_DL_LINKMAP) || !map ||
	    !map->l_name || !map->l_name[0])
		return true;
	return dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}
#else
static bool pin(void)
{
	return true;
}
#endif

bool module_pin(void)
{
	static uint32_t pinned;

	if (load_relaxed(&pinned))
		return true;
	if (!pin())
		return false;
	store_relaxed(&pinned, 1);
	return true;
}
