#!/bin/sh
# Installs what tests/cluster/lab.py calls, from Debian's packages, where they can be had; what is there stays. Root.
set -eu

missing() {
    for tool in ip nsenter rsync setpriv ssh ssh-keygen unshare /usr/sbin/sshd; do
        command -v "$tool" >/dev/null || return 0
    done
    return 1
}

missing || exit 0
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then # the lab starts an sshd of its own; none shall listen on this machine
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
packages="iproute2 openssh-client openssh-server rsync util-linux"
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $packages; } || missing; then
    echo "lab: Debian's $packages cannot all be had here; its tests are skipped and say what is missing"
fi
