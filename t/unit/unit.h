
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
#include <sys/types.h>
#include <cmocka.h>


/*
 * Starts this process anew, once, in a mount namespace of its own; 0, or -1
 * with a message on standard error.
 */
int unit_namespace(char *const *argv);

/* The same, with an empty Nix store on /nix. */
int unit_store(char *const *argv);

/* How many descriptors are open: equal before and after means none is left. */
int unit_descriptors(void);

/* As asprintf(); malloc'ed. */
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Runs a command of the shell, which must not fail. */
void unit_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A new file in place of what is there. */
void unit_write(const char *path, const char *text, mode_t mode);


#endif /* _NIXERY_UNIT_H_INCLUDED_ */
