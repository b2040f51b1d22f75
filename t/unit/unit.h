
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_UNIT_H_INCLUDED_
#define _NIXERY_UNIT_H_INCLUDED_


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>


/*
 * An empty Nix store on /nix that this process alone sees, in a mount namespace
 * that it starts anew in; 0, or -1 with a message on standard error.
 */
int unit_store(char *const *argv);

/* How many descriptors are open: equal before and after means none is left. */
int unit_descriptors(void);


#endif /* _NIXERY_UNIT_H_INCLUDED_ */
