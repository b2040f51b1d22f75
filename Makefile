# Every task a person runs; "make help" lists them.

BUILD ?= build

CORE := ngx_http_nixery_module/core
CORE_LIBS := -larchive -ldeflate -lcjson -lcrypto -lpthread

CORE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -g -O2 -W -Wall -Wextra -Wpointer-arith \
	-Wshadow -Wwrite-strings -Wno-unused-parameter -Werror
SANITIZE ?=

core_objs := $(patsubst $(CORE)/%.c,$(BUILD)/core/%.o,$(wildcard $(CORE)/*.c))
unit_tests := $(patsubst t/unit/%.c,$(BUILD)/unit/%,$(wildcard t/unit/*_test.c))


$(BUILD)/core/%.o: $(CORE)/%.c $(wildcard $(CORE)/*.h)
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) $(SANITIZE) -c -o $@ $<

$(BUILD)/libnixery.a: $(core_objs)
	$(AR) rcs $@ $^

$(BUILD)/unit/%: t/unit/%.c $(BUILD)/libnixery.a
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) $(SANITIZE) -I$(CORE) -o $@ $< \
	    $(BUILD)/libnixery.a -lcmocka $(CORE_LIBS)

.PHONY: unit
unit: $(unit_tests)
	@for t in $(unit_tests); do $$t || exit 1; done
