#!/bin/sh
# What the tests need beyond Python: a browser, a C compiler, and the programs named as arguments (Debian packages
# of the same name). Installed where that is allowed, else one line says what is missing and which tests are left out.
missing=""
for program in "$@"; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 && exit 0
fi
case "$missing" in *chromium*) echo "missing: chromium, so the browser tests are skipped (Debian: apt install chromium)" ;; esac
case "$missing" in *gcc*) echo "missing: a C compiler, so the driver tests are skipped (Debian: apt install gcc libc6-dev)" ;; esac
case "$missing" in *prometheus*) echo "missing: prometheus, so the tests beside it fail (Debian: apt install prometheus)" ;; esac
exit 0
