# Every task a person runs; "make help" lists them.

SHELL := /bin/bash
.DELETE_ON_ERROR:

BUILD ?= build
PORT ?= 8080
STATE ?= /var/lib/nixery
JOBS ?= 4

root := $(CURDIR)
build := $(abspath $(BUILD))
module_dir := ngx_http_nixery_module
core_dir := $(module_dir)/core
http_dir := $(module_dir)/http

sources := config $(wildcard $(core_dir)/*.[ch] $(http_dir)/*.[ch])
so := $(build)/ngx_http_nixery_module.so

# Debian packages, each group on top of the first
build_packages := gcc make nginx nginx-dev libarchive-dev libcjson-dev \
	libcurl4-openssl-dev libdeflate-dev libssl-dev
run_packages := nix-bin nix-setup-systemd busybox-static ca-certificates perl \
	git
test_packages := $(run_packages) bash-static libcmocka-dev skopeo podman runc \
	libarchive-tools python3 curl openssl valgrind procps fcgiwrap \
	openssh-client openssh-server gettext-base
asan_packages := clang libclang-rt-14-dev dpkg-dev libpcre2-dev zlib1g-dev
lint_packages := clang-format clang-tidy cppcheck shellcheck \
	libperl-critic-perl binutils
bench_packages := wrk

apt := conf/apt.sh $(build_packages)


.PHONY: help
help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' \
	    $(MAKEFILE_LIST)


# --- build

.PHONY: build
build: deps-build $(so) ## the module, for Debian's nginx

.PHONY: deps-build deps-run deps-test deps-asan deps-lint deps-bench
deps-build:
	@$(apt)

deps-run:
	@$(apt) $(run_packages)

deps-test:
	@$(apt) $(test_packages)

deps-asan:
	@$(apt) $(test_packages) $(asan_packages)

deps-lint:
	@$(apt) $(run_packages) $(lint_packages) libcmocka-dev

deps-bench:
	@$(apt) $(test_packages) $(bench_packages)

NGINX_DEV := /usr/share/nginx/src

# configure writes down which files there are: another list, another Makefile
$(build)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(sources)' | cmp -s - $@ || echo '$(sources)' > $@

.PHONY: FORCE
FORCE:

# the flags that Debian built nginx with: a module's signature depends on them
$(build)/nginx/Makefile: config $(MAKEFILE_LIST) $(build)/sources | deps-build
	@echo "configuring the module for Debian's nginx"
	@mkdir -p $(build)/nginx
	@cd $(NGINX_DEV) && . ./conf_flags \
	    && ./configure "$${NGX_CONF_FLAGS[@]}" \
	        --with-cc-opt="-g -O2 -fstack-protector-strong -fPIC" \
	        --add-dynamic-module=$(root) --builddir=$(build)/nginx \
	        >$(build)/nginx/configure.log 2>&1 \
	    || { cat $(build)/nginx/configure.log; exit 1; }

$(so): $(build)/nginx/Makefile $(sources) | deps-build
	@echo "building the module"
	@$(MAKE) --no-print-directory -s -C $(NGINX_DEV) \
	    -f $(build)/nginx/Makefile modules
	@cp $(build)/nginx/ngx_http_nixery_module.so $@

.PHONY: module
module: ## the module, for the nginx source tree NGINX_SRC=
	@test -x "$(NGINX_SRC)/configure" \
	    || { echo "NGINX_SRC must be an nginx source tree"; exit 1; }
	cd $(NGINX_SRC) && ./configure --with-compat --with-threads \
	    $(NGINX_CONFIGURE) --add-dynamic-module=$(root) \
	    --builddir=$(build)/module
	$(MAKE) -C $(NGINX_SRC) -f $(build)/module/Makefile modules
	@echo "the module is $(BUILD)/module/ngx_http_nixery_module.so"

.PHONY: install
install: build ## into DESTDIR=, as Debian lays modules out
	install -D -m 644 $(so) \
	    $(DESTDIR)/usr/lib/nginx/modules/ngx_http_nixery_module.so
	install -d $(DESTDIR)/usr/share/nginx/modules-available \
	    $(DESTDIR)/etc/nginx/modules-enabled
	echo "load_module modules/ngx_http_nixery_module.so;" > \
	    $(DESTDIR)/usr/share/nginx/modules-available/mod-http-nixery.conf
	ln -sf /usr/share/nginx/modules-available/mod-http-nixery.conf \
	    $(DESTDIR)/etc/nginx/modules-enabled/50-mod-http-nixery.conf
	install -D -m 644 -t $(DESTDIR)/usr/share/nginx/nixery \
	    conf/nix/*.nix conf/nix/closure.sh
	install -D -m 644 -t $(DESTDIR)/usr/share/nginx/nixery/html conf/html/*
	install -D -m 644 conf/nginx.conf \
	    $(DESTDIR)/usr/share/doc/ngx_http_nixery_module/nginx.conf
	install -D -m 644 conf/templates/nixery.conf.template \
	    $(DESTDIR)/usr/share/doc/ngx_http_nixery_module/templates/nixery.conf.template


# --- run

sudo := $(if $(filter 0,$(shell id -u)),,sudo)
sudo_e := $(if $(sudo),$(sudo) -E)

.PHONY: packages
packages: deps-run
	@conf/nix/setup.sh $(build)/packages

# what the bundled set is made for: "stdenv" is made of others
bundled_roots = $$(awk '/^[^\#]/ { print $$1 }' conf/nix/packages/roots) stdenv

.PHONY: run
run: deps-run build $(if $(PACKAGES),,packages) ## serve on PORT=, images of PACKAGES= or the bundled set
	@$(sudo) env PORT=$(PORT) STATE=$(STATE) MODULE=$(so) \
	    $(if $(PACKAGES),PACKAGES="$(PACKAGES)",BUNDLED=$(build)/packages SUBSTITUTERS=) \
	    conf/with-nix.sh conf/run.sh

# standard output is the table's
.PHONY: popularity
popularity: ## a table for nixery_popularity, of ATTRIBUTES= or all that PACKAGES= or the bundled set has
	@$(apt) $(run_packages) >&2
	@$(if $(PACKAGES),,conf/nix/setup.sh $(build)/packages >&2)
	@$(if $(PACKAGES),,NIX_CONFIG="substitute = false" SUBSTITUTERS=) \
	    $(sudo_e) conf/with-nix.sh conf/nix/popularity/count.pl \
	    "$(or $(PACKAGES),$(build)/packages)" \
	    $(or $(ATTRIBUTES),$(if $(PACKAGES),,$(bundled_roots)))


# --- test

core_cflags := -std=gnu11 -D_GNU_SOURCE -g -W -Wall -Wextra -Wpointer-arith \
	-Wshadow -Wwrite-strings -Wno-unused-parameter -Werror
core_libs := -larchive -lcurl -ldeflate -lcjson -lcrypto -lpthread
core_sources := $(wildcard $(core_dir)/*.c)

unit_shared := t/unit/unit.c t/unit/server.c

# the unit tests in three flavours; no nginx header is on the include path,
# which is what keeps nginx out of the core
unit_cflags := -O2
asan_cflags := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
tsan_cflags := -O1 -fsanitize=thread
tsan_extra := t/unit/tsan.c -Wl,--wrap=syscall

# what a test has in place of libc's own
nomem_test_wraps := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
	-Wl,--wrap=strdup,--wrap=strndup,--wrap=vasprintf,--wrap=asprintf

fuzz_cflags := $(asan_cflags) -fsanitize=fuzzer-no-link

define core_rules
$(build)/$(1)/%.o: $(core_dir)/%.c $(wildcard $(core_dir)/*.h)
	@mkdir -p $$(@D)
	@$(2) $(core_cflags) $($(1)_cflags) -c -o $$@ $$<

$(build)/$(1)/libnixery.a: $(patsubst $(core_dir)/%.c,$(build)/$(1)/%.o,$(core_sources))
	@rm -f $$@
	@$(AR) rcs $$@ $$^
endef

define unit_rules
$(call core_rules,$(1),$(2))

$(build)/$(1)/%_test: t/unit/%_test.c $(unit_shared) t/unit/unit.h \
    t/unit/server.h $(build)/$(1)/libnixery.a $(filter %.c,$($(1)_extra))
	@echo "building $(1)/$$(@F)"
	@$(2) $(core_cflags) $($(1)_cflags) -I$(core_dir) -o $$@ $$< \
	    $(unit_shared) $($(1)_extra) $(build)/$(1)/libnixery.a -lcmocka \
	    $(core_libs) $$($$(@F)_wraps)

.PHONY: $(1)-build
$(1)-build: $(patsubst t/unit/%.c,$(build)/$(1)/%,$(wildcard t/unit/*_test.c))
endef

$(eval $(call unit_rules,unit,$(CC)))
$(eval $(call unit_rules,asan,clang))
$(eval $(call unit_rules,tsan,clang))
$(eval $(call core_rules,fuzz,clang))

$(build)/fuzz/%_fuzz: t/fuzz/%_fuzz.c $(wildcard t/fuzz/*.h) $(build)/fuzz/libnixery.a
	@echo "building fuzz/$(@F)"
	@clang $(core_cflags) $(asan_cflags) -fsanitize=fuzzer -I$(core_dir) -o $@ $< \
	    $(build)/fuzz/libnixery.a $(core_libs)

.PHONY: fuzz-build
fuzz-build: $(patsubst t/fuzz/%.c,$(build)/fuzz/%,$(wildcard t/fuzz/*_fuzz.c))

unit_make = $(MAKE) --no-print-directory -s -j$(shell nproc) $(1)-build
unit_run = CMOCKA_MESSAGE_OUTPUT=tap prove -j$(JOBS) -e '' $(build)/$(1)/*_test

.PHONY: unit
unit:
	@$(call unit_make,unit)
	@$(call unit_run,unit)

.PHONY: test
test: deps-test build packages unit ## every test
	@BUILD=$(build) JOBS=$(JOBS) SUBSTITUTERS= TESTS="$(TESTS)" \
	    $(sudo_e) conf/with-nix.sh t/harness/run.sh

$(build)/nginx-source/configure:
	@t/harness/nginx-source.sh $(build)/nginx-source

# nginx trips over two checks of its own, see t/harness/ubsan.supp, and reads
# words at any address unless it is told not to
asan_nginx_cflags := -g -O1 -fsanitize=address,undefined \
	-fno-sanitize=nonnull-attribute -fno-omit-frame-pointer \
	-DNGX_DEBUG_PALLOC=1 -DNGX_HAVE_NONALIGNED=0

$(build)/nginx-asan/nginx: $(build)/nginx-source/configure $(build)/sources $(sources)
	@echo "building nginx and the module with sanitizers"
	@cd $(build)/nginx-source && ./configure --with-cc=clang \
	    --with-cc-opt="$(asan_nginx_cflags)" \
	    --with-ld-opt="-fsanitize=address,undefined" \
	    --with-debug --with-threads --with-http_v2_module \
	    --with-http_ssl_module --builddir=$(build)/nginx-asan \
	    --add-module=$(root) >$(build)/nginx-asan.log 2>&1 \
	    && $(MAKE) -s -j2 -f $(build)/nginx-asan/Makefile \
	        >>$(build)/nginx-asan.log 2>&1 \
	    || { tail -50 $(build)/nginx-asan.log; exit 1; }

.PHONY: test-asan
test-asan: deps-asan packages $(build)/nginx-asan/nginx ## the same under the sanitizers of clang
	@$(call unit_make,asan)
	@$(call unit_run,asan)
	@$(call unit_make,tsan)
	@$(call unit_run,tsan)
	@$(call unit_make,fuzz)
	@BUILD=$(build) JOBS=$(JOBS) SEED=1 LIMIT=60 t/fuzz/run.sh
	@BUILD=$(build) JOBS=$(JOBS) SUBSTITUTERS= TESTS="$(TESTS)" \
	    TEST_NGINX_BINARY=$(build)/nginx-asan/nginx \
	    $(sudo_e) conf/with-nix.sh t/harness/run.sh

.PHONY: fuzz
fuzz: deps-asan ## feed what takes untrusted bytes, for LIMIT= seconds each
	@$(call unit_make,fuzz)
	@BUILD=$(build) JOBS=$(JOBS) t/fuzz/run.sh


# --- lint, bench, clean

.PHONY: lint
lint: deps-lint build ## format and static analysis
	@BUILD=$(build) t/harness/lint.sh

$(build)/bench/%: t/bench/%.c $(build)/unit/libnixery.a
	@mkdir -p $(@D)
	@$(CC) $(core_cflags) $(unit_cflags) -I$(core_dir) -o $@ $< \
	    $(build)/unit/libnixery.a $(core_libs)

.PHONY: bench
bench: deps-bench build packages $(build)/bench/pack $(build)/bench/layers ## ratios against limits measured in the same run
	@BUILD=$(build) SUBSTITUTERS= $(sudo_e) conf/with-nix.sh t/bench/run.pl

.PHONY: clean
clean: ## remove all that was built
	rm -rf $(build)
