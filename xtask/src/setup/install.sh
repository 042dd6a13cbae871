# Installs Debian packages without leaving a daemon that runs, now or after the next boot.
# policy-rc.d is the documented way to forbid the start (a policy of the host's own is left alone); units that were not
# there before are disabled afterwards, also where systemd is not installed.
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
new=
for unit in nginx redis-server postgresql mariadb iperf3; do
    [ -e "/lib/systemd/system/$unit.service" ] || new="$new $unit"
done
apt-get -q install -y --no-install-recommends "$@"
for unit in $new; do
    [ -e "/lib/systemd/system/$unit.service" ] || continue
    update-rc.d "$unit" disable >/dev/null 2>&1 || true
    rm -f "/etc/systemd/system/multi-user.target.wants/$unit.service"
done
