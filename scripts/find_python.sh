#!/bin/sh
# Prints the path of a Python 3.11 or 3.12 that starts, one with its headers before one without.
# Looks at $PYTHON if it is set, else at every python3, python3.12 and python3.11 on PATH (a pyenv shim may stand there and
# fail). Finds none: one line with the cure, exit 2.

probe='
import os, sys, sysconfig
if not (3, 11) <= sys.version_info[:2] < (3, 13):
    raise SystemExit("%d.%d" % sys.version_info[:2])
print(os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")), getattr(sys, "_base_executable", sys.executable))
'
without_headers=''
refused=''

try_python() {  # prints the answer and ends the script when $1 is one to take
    said=$("$1" -c "$probe" 2>&1)
    case $said in
        "True "*) printf '%s\n' "${said#True }"; exit 0 ;;
        "False "*) [ -n "$without_headers" ] || without_headers=${said#False } ;;
        [23].[0-9]|[23].[0-9][0-9]) refused="$refused${refused:+, }$1 is $said" ;;
        *) refused="$refused${refused:+, }$1 does not start" ;;
    esac
}

if [ -n "${PYTHON:-}" ]; then
    try_python "$PYTHON"
else
    for name in python3 python3.12 python3.11; do
        old_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$old_ifs
            [ -x "$folder/$name" ] && try_python "$folder/$name"
        done
        IFS=$old_ifs
    done
fi
if [ -n "$without_headers" ]; then
    printf '%s\n' "$without_headers"
    exit 0
fi
printf '%s\n' "setup: expected Python 3.11 or 3.12, but ${refused:-no python3 is on PATH}. Install one with its headers (Debian, Ubuntu: apt install python3.11-dev python3.11-venv; or: pyenv install 3.11), or name one: make setup PYTHON=/path/to/python3.11" >&2
exit 2
