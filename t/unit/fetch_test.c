
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "unit.h"
#include "nixery_git.h"


/*
 * What is written for git is read by git and ssh themselves: programs run in
 * shells with the environment that is tested.
 */


#define MINUTE  60000

/* What a folder may be called, all of it at once. */
#define ODD     "a 'b' \"c\" \\d\\ $HOME `e` #f;g ~ %h %% \t(\n)"

#define count_of(array)  (sizeof(array) / sizeof(array[0]))


typedef struct {
    char               *dir;
    char               *work;
    char               *odd;        /* a folder of that name */
    nixery_nix_t        nix;
    nixery_source_t     source;
    nixery_fetch_t      fetch;
    nixery_cancel_t     cancel;
    nixery_process_t    process;
    nixery_buf_t        text;
    nixery_error_t      err;
} fixture_t;


/* Milliseconds that the clock is ahead. */

static uint64_t  clock_ahead;


int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int  rc;

    rc = (int) syscall(SYS_clock_gettime, id, ts);

    ts->tv_sec += (time_t) (clock_ahead / 1000);
    ts->tv_nsec += (long) (clock_ahead % 1000) * 1000000;

    if (ts->tv_nsec >= 1000000000) {
        ts->tv_nsec -= 1000000000;
        ts->tv_sec++;
    }

    return rc;
}


static void
closes(fixture_t *f)
{
    nixery_fetch_close(&f->fetch);
    nixery_process_free(&f->process);
    nixery_buf_free(&f->text);
    nixery_error_free(&f->err);
}


static int
opens(fixture_t *f)
{
    closes(f);
    memset(&f->fetch, 0, sizeof(nixery_fetch_t));

    f->fetch.nix = &f->nix;
    f->fetch.work = f->work;
    f->fetch.temp_path = f->dir;
    f->fetch.cancel = &f->cancel;
    f->fetch.deadline = nixery_now() + f->nix.timeout;

    return nixery_fetch_open(&f->fetch, &f->err);
}


static void
opened(fixture_t *f)
{
    if (opens(f) != NIXERY_OK) {
        fail_msg("%s", f->err.message);
    }

    assert_int_equal(f->err.kind, NIXERY_ERROR_NONE);
}


static void
not_opened(fixture_t *f, const char *message)
{
    assert_int_equal(opens(f), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_SYSTEM);
    assert_string_equal(f->err.message, message);
    assert_null(f->fetch.env);
}


/* A shell's command, in the work folder. */

static int
run(fixture_t *f, const char *fmt, ...)
{
    int         rc;
    char       *body, *command;
    va_list     args;
    const char *argv[4];

    va_start(args, fmt);
    assert_int_not_equal(vasprintf(&body, fmt, args), -1);
    va_end(args);

    command = format("cd '%s'; %s", f->work, body);

    nixery_process_free(&f->process);
    nixery_buf_free(&f->text);
    nixery_error_free(&f->err);
    memset(&f->process, 0, sizeof(nixery_process_t));

    argv[0] = "sh";
    argv[1] = "-c";
    argv[2] = command;
    argv[3] = NULL;

    f->process.program = "/bin/sh";
    f->process.argv = (char *const *) argv;
    f->process.grace = 1000;
    f->process.out_max = 65536;
    f->process.err.head_max = 4096;
    f->process.err.tail_max = 4096;

    rc = nixery_fetch_run(&f->fetch, &f->process, &f->text, &f->err);

    free(command);
    free(body);

    return rc;
}


/* What the last command has printed. */

static const char *
printed(fixture_t *f)
{
    return f->process.out.data ? f->process.out.data : "";
}


static void
assert_printed(fixture_t *f, const char *expected)
{
    if (f->process.status != 0) {
        fail_msg("status %d, \"%s\"", f->process.status, f->text.data);
    }

    assert_string_equal(printed(f), expected);
}


static mode_t
mode_of(fixture_t *f, const char *name)
{
    char         *path;
    struct stat   sb;

    path = format("%s/%s", f->work, name);
    sb.st_mode = 0;
    (void) stat(path, &sb);
    free(path);

    return sb.st_mode & 07777;
}


static int
make_fixture(void **state)
{
    char        template[] = "/tmp/nixery-fetch-XXXXXX";
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));

    if (f == NULL || mkdtemp(template) == NULL) {
        return -1;
    }

    f->dir = format("%s", template);
    f->work = format("%s/work", f->dir);
    f->odd = format("%s/%s", f->dir, ODD);

    if (mkdir(f->work, 0700) == -1 || mkdir(f->odd, 0700) == -1) {
        return -1;
    }

    f->source.kind = NIXERY_SOURCE_GIT;
    f->source.name = "https://host.example/a";
    f->source.shown = f->source.name;

    f->nix.program = "/opt/nix/bin/nix-build";
    f->nix.source = &f->source;
    f->nix.timeout = MINUTE;

    *state = f;

    return 0;
}


static int
remove_fixture(void **state)
{
    fixture_t  *f;

    f = *state;
    clock_ahead = 0;

    closes(f);

    unit_shell("rm -rf '%s'", f->dir);

    free(f->odd);
    free(f->work);
    free(f->dir);
    free(f);

    return 0;
}


/* --- environment */

static void
variables(void **state)
{
    size_t  i;

    static char  *env[] = {
        (char *) "HOMER=no", (char *) "HOME=/a=b", (char *) "EMPTY=",
        (char *) "HOME=/second", (char *) "BARE", NULL
    };

    static const struct {
        const char  *name;
        const char  *value;
    } cases[] = {
        { "HOME", "/a=b" }, { "HOMER", "no" }, { "EMPTY", "" },
        { "HOM", NULL }, { "BARE", NULL }, { "home", NULL }, { "", NULL },
        { "NIX", NULL }
    };

    (void) state;

    for (i = 0; i < count_of(cases); i++) {
        if (cases[i].value == NULL) {
            assert_null(nixery_env_get(env, cases[i].name));

        } else {
            assert_string_equal(nixery_env_get(env, cases[i].name),
                                cases[i].value);
        }

        assert_null(nixery_env_get(NULL, cases[i].name));
        assert_null(nixery_env_get(env + 5, cases[i].name));
    }
}


static void
environment(void **state)
{
    char       *expected, *git;
    fixture_t  *f;

    static char  *env[] = {
        (char *) "NIX_REMOTE=daemon", (char *) "HOMER=no",
        (char *) "TMPDIR=/else", (char *) "LC_ALL=C.UTF-8",
        (char *) "GIT_CONFIG_GLOBAL=/own", (char *) "EMPTY=", NULL
    };

    f = *state;

    assert_int_equal(setenv("NIXERY_SECRET", "not for programs", 1), 0);

    opened(f);
    assert_int_equal(run(f, "tr '\\0' '\\n' < /proc/$$/environ | sort"),
                     NIXERY_OK);
    expected = format("GIT_CONFIG_GLOBAL=%s/gitconfig\n"
                      "GIT_TERMINAL_PROMPT=0\nHOME=%s/home\nLC_ALL=C\n"
                      "PATH=/opt/nix/bin:/usr/local/bin:/usr/bin:/bin\n"
                      "TMPDIR=%s\nXDG_CACHE_HOME=%s/home/.cache\n",
                      f->work, f->dir, f->work, f->dir);
    assert_printed(f, expected);
    free(expected);

    /* what is configured wins */

    f->nix.env = env;
    opened(f);
    assert_int_equal(run(f, "tr '\\0' '\\n' < /proc/$$/environ | sort"),
                     NIXERY_OK);
    expected = format("EMPTY=\nGIT_CONFIG_GLOBAL=/own\n"
                      "GIT_TERMINAL_PROMPT=0\nHOME=%s/home\nHOMER=no\n"
                      "LC_ALL=C.UTF-8\nNIX_REMOTE=daemon\n"
                      "PATH=/opt/nix/bin:/usr/local/bin:/usr/bin:/bin\n"
                      "TMPDIR=/else\nXDG_CACHE_HOME=%s/home/.cache\n",
                      f->dir, f->dir);
    assert_printed(f, expected);
    free(expected);
    f->nix.env = NULL;

    /* git has no part in a path, unless that is a checkout */

    f->source.kind = NIXERY_SOURCE_PATH;
    f->source.name = f->odd;
    f->source.shown = NULL;
    assert_int_equal(run(f, "rm gitconfig"), NIXERY_OK);

    opened(f);
    assert_null(nixery_env_get(f->fetch.env, "GIT_CONFIG_GLOBAL"));
    assert_non_null(nixery_env_get(f->fetch.env, "HOME"));
    assert_int_equal(mode_of(f, "gitconfig"), 0);

    git = format("%s/.git", f->odd);
    assert_int_equal(mkdir(git, 0700), 0);

    opened(f);
    assert_non_null(nixery_env_get(f->fetch.env, "GIT_CONFIG_GLOBAL"));
    assert_int_equal(mode_of(f, "gitconfig"), 0600);

    /* or cannot change */

    f->source.immutable = 1;
    opened(f);
    assert_null(nixery_env_get(f->fetch.env, "GIT_CONFIG_GLOBAL"));

    assert_int_equal(rmdir(git), 0);
    free(git);

    /* a channel may be a repository's */

    f->source.kind = NIXERY_SOURCE_CHANNEL;
    f->source.name = "nixos-unstable";
    f->source.shown = "https://host.example/a";
    f->source.immutable = 0;
    opened(f);
    assert_non_null(nixery_env_get(f->fetch.env, "GIT_CONFIG_GLOBAL"));
}


static void
folders(void **state)
{
    char       *message, *home;
    fixture_t  *f;
    struct stat  sb;

    f = *state;

    home = format("%s/home", f->dir);

    opened(f);
    assert_int_equal(stat(home, &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0700);
    opened(f);

    /* there is no place for it */

    assert_int_equal(rmdir(home), 0);
    free(home);
    message = format("make directory \"%s/nope/home\": No such file or "
                     "directory", f->dir);
    home = f->dir;
    f->dir = format("%s/nope", f->dir);
    not_opened(f, message);
    free(f->dir);
    f->dir = home;
    free(message);

    message = format("write \"%s/nope/gitconfig\": No such file or directory",
                     f->work);
    home = f->work;
    f->work = format("%s/nope", f->work);
    not_opened(f, message);
    free(f->work);
    f->work = home;
    free(message);

    /* nothing is written through a link */

    opened(f);
    assert_int_equal(run(f, "rm gitconfig; touch away; ln -s away gitconfig"),
                     NIXERY_OK);
    message = format("write \"%s/gitconfig\": Too many levels of symbolic "
                     "links", f->work);
    not_opened(f, message);
    free(message);

    message = format("%s/gitconfig", f->work);
    assert_int_equal(unlink(message), 0);
    free(message);

    message = format("%s/git-credentials", f->work);
    assert_int_equal(symlink("away", message), 0);
    free(message);

    f->source.user = "ann";
    f->source.password = "hunter2";
    message = format("write \"%s/git-credentials\": Too many levels of "
                     "symbolic links", f->work);
    not_opened(f, message);
    free(message);

    f->source.user = NULL;
    opened(f);
    assert_int_equal(run(f, "cat away"), NIXERY_OK);
    assert_printed(f, "");
}


static void
modes(void **state)
{
    mode_t      mask;
    fixture_t  *f;

    f = *state;
    f->source.user = "ann";
    f->source.password = "hunter2";

    /* as nginx's processes have it */

    mask = umask(0);
    opened(f);
    (void) umask(mask);

    assert_int_equal(mode_of(f, "gitconfig"), 0600);
    assert_int_equal(mode_of(f, "git-credentials"), 0600);
    assert_int_equal(mode_of(f, "../home"), 0700);

    /* what is secret is in one of them alone */

    assert_int_equal(run(f, "grep -l hunter2 * /proc/self/environ"),
                     NIXERY_OK);
    assert_printed(f, "git-credentials\n");

    /* written anew, not on top of what was there */

    f->source.password = "p";
    opened(f);
    assert_int_equal(run(f, "cat git-credentials"), NIXERY_OK);
    assert_printed(f, "https://ann:p@host.example\n");
}


/* --- git's configuration */

static void
configuration(void **state)
{
    char       *text;
    fixture_t  *f;

    f = *state;

    opened(f);
    assert_int_equal(run(f, "git config --file gitconfig --list"), NIXERY_OK);
    assert_printed(f, "include.path=~/.gitconfig\nsafe.directory=*\n"
                      "init.defaultbranch=main\ngc.autodetach=false\n"
                      "protocol.allow=never\nprotocol.https.allow=always\n"
                      "protocol.http.allow=always\n"
                      "protocol.ssh.allow=always\n"
                      "protocol.git.allow=always\n"
                      "protocol.file.allow=user\n"
                      "core.sshcommand=ssh -o BatchMode=yes"
                      " -o ConnectTimeout=30 -o StrictHostKeyChecking=yes\n"
                      "credential.helper=\n");

    f->source.name = "file:///a";
    f->source.shown = "file:///a";
    opened(f);
    assert_int_equal(run(f, "git config --file gitconfig --get-regexp"
                            " protocol.*"), NIXERY_OK);
    assert_printed(f, "protocol.allow never\nprotocol.https.allow always\n"
                      "protocol.http.allow always\n"
                      "protocol.ssh.allow always\n"
                      "protocol.git.allow always\n"
                      "protocol.file.allow always\n");

    /* what an operator has in the file that git always reads */

    text = format("%s/home/.gitconfig", f->dir);
    unit_write(text, "[protocol \"http\"]\n\tallow = never\n"
                     "[user]\n\tname = own\n[credential]\n\thelper = own\n",
               0600);
    free(text);

    opened(f);
    assert_int_equal(run(f, "git config user.name;"
                            "git config protocol.http.allow;"
                            "git config --get-all credential.helper"),
                     NIXERY_OK);
    assert_printed(f, "own\nalways\nown\n\n");
}


static void
authorities(void **state)
{
    char       *own[3], *expected;
    fixture_t  *f;

    f = *state;

    own[0] = format("SSL_CERT_FILE=%s/ca", f->odd);
    own[1] = NULL;
    own[2] = NULL;

    f->nix.env = own;

    opened(f);
    assert_int_equal(run(f, "git config http.sslCAInfo"), NIXERY_OK);
    expected = format("%s/ca\n", f->odd);
    assert_printed(f, expected);
    free(expected);

    /* Nix's own variable comes first, wherever it stands */

    own[1] = format("NIX_SSL_CERT_FILE=%s/nix", f->odd);

    opened(f);
    assert_int_equal(run(f, "git config http.sslCAInfo"), NIXERY_OK);
    expected = format("%s/nix\n", f->odd);
    assert_printed(f, expected);
    free(expected);

    f->nix.env = NULL;
    free(own[0]);
    free(own[1]);
}


/* As ssh has it in the end, whatever the files are called. */

static void
ssh(void **state)
{
    char       *expected;
    fixture_t  *f;

    f = *state;

    f->source.name = "ssh://git@host.example/a";
    f->source.shown = f->source.name;
    f->source.key = "/etc/key";
    f->source.known_hosts = "/etc/known_hosts";

    opened(f);
    assert_int_equal(run(f, "git config core.sshCommand"), NIXERY_OK);
    assert_printed(f, "ssh -o BatchMode=yes -o ConnectTimeout=30"
                      " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
                      " -o IdentityFile='\"/etc/key\"'"
                      " -o GlobalKnownHostsFile=/dev/null"
                      " -o UserKnownHostsFile='\"/etc/known_hosts\"'\n");

    f->source.key = format("%s/key", f->odd);
    f->source.known_hosts = format("%s/hosts", f->odd);

    opened(f);

    assert_int_equal(run(f, "eval \"$(git config core.sshCommand)\""
                            " -F none -G host | egrep -x 'batchmode yes|"
                            "identitiesonly yes|stricthostkeychecking true|"
                            "globalknownhostsfile /dev/null'"), NIXERY_OK);
    assert_int_equal(f->process.status, 0);
    assert_string_equal(printed(f),
                        "batchmode yes\nidentitiesonly yes\n"
                        "stricthostkeychecking true\n"
                        "globalknownhostsfile /dev/null\n");

    /* one file of each, a "%" of whose name stands for nothing else */

    assert_int_equal(run(f, "eval \"$(git config core.sshCommand)\""
                            " -F none -G host | tr '\\n' ' '"
                            " | grep -o ' userknownhosts.*'"), NIXERY_OK);
    assert_int_equal(f->process.status, 0);
    expected = format(" userknownhostsfile %s/hosts ", f->odd);
    *strchr(expected, '\n') = ' ';
    assert_memory_equal(printed(f), expected, strlen(expected));
    free(expected);

    assert_int_equal(run(f, "ssh-keygen -q -t ed25519 -N '' -f key;"
                            "mv key key.pub ../a*/;"
                            "eval \"$(git config core.sshCommand)\" -v -F none"
                            " -o ProxyCommand=false host 2>&1"
                            " | grep 'identity file' | wc -l;"
                            "eval \"$(git config core.sshCommand)\" -v -F none"
                            " -o ProxyCommand=false host 2>&1"
                            " | grep -c '/key type [0-9]'"), NIXERY_OK);
    assert_printed(f, "2\n1\n");

    free((char *) f->source.key);
    free((char *) f->source.known_hosts);
}


/* --- credentials */

/* "git credential fill" of what is asked for, in lines. */

static void
fill(fixture_t *f, const char *asked)
{
    assert_int_equal(run(f, "printf '%s\\n' | git credential fill", asked),
                     NIXERY_OK);
}


static void
credentials(void **state)
{
    int         c;
    char        bytes[257], *expected;
    size_t      i;
    fixture_t  *f;

    static const struct {
        const char  *shown;
        const char  *user;
        const char  *password;
        const char  *text;
        const char  *host;
    } cases[] = {
        { "https://host.example/a/b", "ann", "hunter2",
          "https://ann:hunter2@host.example\n", "host.example" },
        { "https://host.example", "token", "",
          "https://token:@host.example\n", "host.example" },
        { "https://host.example:8443/a", "a@b", "c:d/e@f",
          "https://a%40b:c%3Ad%2Fe%40f@host.example:8443\n",
          "host.example:8443" },
        { "https://[::1]:8443/a", "ann", "-._~",
          "https://ann:-._~@[::1]:8443\n", "[::1]:8443" },
        { "https://127.0.0.1/a?b", "\xc3\xa4", "%20+ '\"\\",
          "https://%C3%A4:%2520%2B%20%27%22%5C@127.0.0.1\n", "127.0.0.1" },
    };

    f = *state;

    for (i = 0; i < count_of(cases); i++) {
        f->source.shown = cases[i].shown;
        f->source.user = cases[i].user;
        f->source.password = cases[i].password;

        opened(f);
        assert_int_equal(run(f, "cat git-credentials"), NIXERY_OK);
        assert_printed(f, cases[i].text);

        expected = format("protocol=https\\nhost=%s\\n", cases[i].host);
        fill(f, expected);
        free(expected);

        expected = format("protocol=https\nhost=%s\nusername=%s\n"
                          "password=%s\n", cases[i].host, cases[i].user,
                          cases[i].password);
        assert_printed(f, expected);
        free(expected);
    }

    /* every byte that a URL can give */

    for (i = 0, c = 1; c < 256; c++) {
        if (c >= 0x20) {
            bytes[i++] = (char) c;
        }
    }

    bytes[i] = '\0';

    f->source.shown = "https://host.example/a";
    f->source.user = bytes;
    f->source.password = bytes;

    opened(f);
    fill(f, "protocol=https\\nhost=host.example\\n");
    expected = format("protocol=https\nhost=host.example\nusername=%s\n"
                      "password=%s\n", bytes, bytes);
    assert_printed(f, expected);
    free(expected);
}


/* Of that host and protocol alone. */

static void
strangers(void **state)
{
    size_t      i;
    fixture_t  *f;

    static const char  *strangers[] = {
        "protocol=http\\nhost=host.example\\n",
        "protocol=https\\nhost=host.example:8443\\n",
        "protocol=https\\nhost=other.example\\n",
        "protocol=https\\nhost=x.host.example\\n",
        "protocol=https\\nhost=host.example.x\\n",
        "protocol=https\\nhost=host.example\\nusername=bob\\n"
    };

    f = *state;
    f->source.user = "ann";
    f->source.password = "hunter2";

    opened(f);

    for (i = 0; i < count_of(strangers); i++) {
        fill(f, strangers[i]);
        assert_int_not_equal(f->process.status, 0);
        assert_non_null(strstr(f->text.data, "terminal prompts disabled"));
        assert_null(strstr(printed(f), "hunter2"));
    }

    fill(f, "protocol=https\\nhost=host.example\\nusername=ann\\n");
    assert_printed(f, "protocol=https\nhost=host.example\nusername=ann\n"
                      "password=hunter2\n");
}


/* An operator's, whatever it is called; it is read and nothing else. */

static void
file_of_credentials(void **state)
{
    char        *path;
    fixture_t   *f;

    f = *state;

    path = format("%s/file", f->odd);
    unit_write(path, "https://bob:one@other.example\n"
                     "https://ann:tw%6F@host.example\n", 0600);

    f->source.credentials = path;

    opened(f);
    assert_int_equal(mode_of(f, "git-credentials"), 0);
    fill(f, "protocol=https\\nhost=host.example\\n");
    assert_printed(f, "protocol=https\nhost=host.example\nusername=ann\n"
                      "password=two\n");

    assert_int_equal(run(f, "set -e; printf 'protocol=https\\n"
                            "host=host.example\\nusername=ann\\n"
                            "password=two\\n\\n' | git credential reject;"
                            "printf 'protocol=https\\nhost=new.example\\n"
                            "username=eve\\npassword=new\\n\\n'"
                            " | git credential approve;"
                            "cat ../a*/file; ls ../home"), NIXERY_OK);
    assert_printed(f, "https://bob:one@other.example\n"
                      "https://ann:tw%6F@host.example\n");

    /* the user of the URL comes before it */

    f->source.user = "eve";
    f->source.password = "three";
    opened(f);
    fill(f, "protocol=https\\nhost=host.example\\n");
    assert_printed(f, "protocol=https\nhost=host.example\nusername=eve\n"
                      "password=three\n");

    free(path);
}


/* --- programs */

static void
text_of_a_program(void **state)
{
    fixture_t  *f;

    static const char *const  secrets[] = { "hunter2", "hunter", NULL };

    f = *state;
    f->source.secrets = secrets;

    opened(f);
    assert_int_equal(run(f, "echo hunter2; printf '\\033[1mhunter2\\033[0m at"
                            " https://ann:pw@host\\r\\n\\377\\n' >&2; exit 3"),
                     NIXERY_OK);
    assert_int_equal(f->process.status, 3 << 8);
    assert_string_equal(f->text.data, "******* at https://host\n?\n");
    assert_int_equal(f->text.len, strlen(f->text.data));

    /* what a program is asked for is the caller's */

    assert_string_equal(printed(f), "hunter2\n");

    /* a NUL is no end, and nothing is a text as well */

    assert_int_equal(run(f, "printf 'a\\0hunter2' >&2"), NIXERY_OK);
    assert_string_equal(f->text.data, "a*******");
    assert_int_equal(run(f, "exit 0"), NIXERY_OK);
    assert_string_equal(f->text.data, "");

    /* without any */

    f->source.secrets = NULL;
    assert_int_equal(run(f, "echo hunter2 >&2"),
                     NIXERY_OK);
    assert_string_equal(f->text.data, "hunter2\n");
}


/* One limit for all of them. */

static void
time_limit(void **state)
{
    char       *noted;
    size_t      i;
    fixture_t  *f;

    static const struct {
        uint64_t     timeout;
        const char  *message;
    } cases[] = {
        { MINUTE, "the build did not finish within 1m" },
        { 120 * MINUTE, "the build did not finish within 120m" },
        { 90000, "the build did not finish within 90s" },
        { 1000, "the build did not finish within 1s" },
        { 1500, "the build did not finish within 1500ms" },
    };

    f = *state;

    noted = format("%s/noted", f->work);

    for (i = 0; i < count_of(cases); i++) {
        clock_ahead = 0;
        f->nix.timeout = cases[i].timeout;
        opened(f);

        /* a program gets what is left of it */

        if (f->nix.timeout >= MINUTE) {
            clock_ahead = f->nix.timeout - 30000;
            assert_int_equal(run(f, "exit 0"), NIXERY_OK);
            assert_true(f->process.timeout <= 30000);
            assert_true(f->process.timeout > 0);
        }

        /* or is not started at all */

        clock_ahead = f->nix.timeout;
        assert_int_equal(run(f, "touch noted"), NIXERY_ERROR);
        assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
        assert_string_equal(f->err.message, cases[i].message);
        assert_null(f->err.log);
        assert_int_equal(access(noted, F_OK), -1);
    }

    free(noted);
}


static void
late_program(void **state)
{
    fixture_t  *f;

    static const char *const  secrets[] = { "hunter2", NULL };

    f = *state;
    f->source.secrets = secrets;

    /* in answer to the signal, so that it is said in time */

    f->nix.timeout = 2000;
    opened(f);
    assert_int_equal(run(f, "trap 'seq 100 >&2; echo hunter2 >&2; exit 0' TERM;"
                            "while :; do sleep 0.02; done"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_TIMEOUT);
    assert_string_equal(f->err.message,
                        "the build did not finish within 2s");

    assert_non_null(f->err.log);
    assert_string_equal(f->err.log, "82\n83\n84\n85\n86\n87\n88\n89\n90\n91\n"
                                    "92\n93\n94\n95\n96\n97\n98\n99\n100\n"
                                    "*******");
}


static void
not_run(void **state)
{
    fixture_t              *f;
    volatile sig_atomic_t   terminate;

    static const char  *none[] = { "none", NULL };

    f = *state;

    opened(f);
    atomic_store(&f->cancel.flag, 1);
    assert_int_equal(run(f, "touch noted"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_CANCELED);
    assert_string_equal(f->err.message, "the build was canceled");
    atomic_store(&f->cancel.flag, 0);

    terminate = 1;
    f->cancel.terminate = &terminate;
    assert_int_equal(run(f, "touch noted"), NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_CANCELED);
    f->cancel.terminate = NULL;

    assert_int_equal(run(f, "ls noted"), NIXERY_OK);
    assert_int_not_equal(f->process.status, 0);

    nixery_process_free(&f->process);
    nixery_buf_free(&f->text);
    f->process.program = "/no/such/program";
    f->process.argv = (char *const *) none;
    assert_int_equal(nixery_fetch_run(&f->fetch, &f->process, &f->text,
                                      &f->err),
                     NIXERY_ERROR);
    assert_int_equal(f->err.kind, NIXERY_ERROR_NIX);
    assert_string_equal(f->err.message, "can't run \"/no/such/program\": No "
                                        "such file or directory");
}


static void
closed_twice(void **state)
{
    int         before;
    fixture_t  *f;

    f = *state;

    before = unit_descriptors();

    opened(f);
    assert_int_equal(run(f, "exit 0"), NIXERY_OK);
    nixery_fetch_close(&f->fetch);
    nixery_fetch_close(&f->fetch);
    assert_null(f->fetch.env);

    assert_int_equal(unit_descriptors(), before);
}


int
main(void)
{
#define test(name)                                                           \
    cmocka_unit_test_setup_teardown(name, make_fixture, remove_fixture)

    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(variables),
        test(environment),
        test(folders),
        test(modes),
        test(configuration),
        test(authorities),
        test(ssh),
        test(credentials),
        test(strangers),
        test(file_of_credentials),
        test(text_of_a_program),
        test(time_limit),
        test(late_program),
        test(not_run),
        test(closed_twice),
    };

    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
