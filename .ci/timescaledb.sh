# PostgreSQL 17 with TimescaleDB from Debian's packages, in a chroot, for one run. Sourced by .ci/run.
# shellcheck shell=bash

chroot=${USAGE_CI_CACHE:-/var/cache/usage-ci}/trixie
timescaledb_data=/var/lib/usage-ci-$$ # inside the chroot
timescaledb_port=

make_timescaledb_chroot() {
    # the mark is made last: an interrupted attempt is thrown away
    if [[ -e $chroot/.complete ]]; then
        return
    fi
    if ! command -v debootstrap >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends debootstrap
    fi
    rm -rf "$chroot"
    mkdir -p "$chroot"
    debootstrap --variant=minbase --include=postgresql-17,postgresql-17-timescaledb trixie "$chroot" >"$work/debootstrap.log" ||
        {
            tail -n 20 "$work/debootstrap.log" "$chroot/debootstrap/debootstrap.log" >&2
            return 1
        }
    touch "$chroot/.complete"
}

install_in_timescaledb_chroot() {
    if chroot "$chroot" dpkg-query --show "$1" >/dev/null 2>&1; then
        return
    fi
    DEBIAN_FRONTEND=noninteractive chroot "$chroot" sh -c \
        "apt-get update -qq && apt-get install -qq --yes --no-install-recommends $1" >"$work/apt.log"
}

as_postgres() {
    chroot --userspec=postgres:postgres "$chroot" "$@"
}

start_timescaledb() {
    local programs=/usr/lib/postgresql/17/bin
    timescaledb_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    chroot "$chroot" install -d -o postgres -g postgres -m 700 "$timescaledb_data"
    as_postgres "$programs/initdb" -D "$timescaledb_data" -U postgres --auth=trust --encoding=UTF8 --no-sync \
        --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 >"$work/initdb.log"
    # thrown away after the run, so nothing has to survive a power cut
    cat >>"$chroot$timescaledb_data/postgresql.conf" <<SETTINGS
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
listen_addresses = '127.0.0.1'
port = $timescaledb_port
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
max_connections = 200
max_worker_processes = 24
fsync = off
full_page_writes = off
timezone = 'UTC'
SETTINGS
    as_postgres "$programs/pg_ctl" -D "$timescaledb_data" -l "$timescaledb_data/log" -w start >/dev/null ||
        {
            cat "$chroot$timescaledb_data/log" >&2
            return 1
        }
}

stop_timescaledb() {
    if [[ -e $chroot$timescaledb_data/postmaster.pid ]]; then
        as_postgres /usr/lib/postgresql/17/bin/pg_ctl -D "$timescaledb_data" -m immediate -w stop >/dev/null || true
    fi
    rm -rf "${chroot:?}$timescaledb_data"
}
