# Sourced by tests/run: servers that all tests share, on free ports of the loopback interface, with their data in a temporary folder.
# Each start_* sets what its clients need to know and adds to `servers` how to stop it.

free_port() { PYTHONPATH=tests/e2e/harness python3 -c 'import ports; print(ports.free_port())'; }

# PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# start_postgres FOLDER [OPTIONS OF THE SERVER]
start_postgres() {
    local bin data port
    bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1)
    data=$1/postgres
    port=$(free_port)
    mkdir -p "$data"
    chmod 755 "$1"
    [ "$(id -u)" != 0 ] || chown postgres "$data"
    (cd / && as_postgres "$bin/initdb" -D "$data" -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 >/dev/null)
    (cd / && as_postgres "$bin/pg_ctl" -D "$data" -s -w -l "$data/log" \
        -o "-h 127.0.0.1 -p $port -k $data -c max_connections=300 ${*:2}" start)
    postgres_ctl=$bin/pg_ctl
    postgres_data=$data
    stop_postgres() { (cd / && as_postgres "$postgres_ctl" -D "$postgres_data" -s -m immediate stop); }
    servers+=(stop_postgres)
    FILMROOM_TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres
}

start_s3() {
    FILMROOM_TEST_S3_KEY=filmroom
    FILMROOM_TEST_S3_SECRET=filmroom-secret
    mkdir -p "$1/s3"
    "$venv/bin/python" tests/e2e/harness/s3.py "$1/s3" >"$1/s3.endpoint" 2>"$1/s3.log" &
    s3_pid=$!
    stop_s3() { kill "$s3_pid" 2>/dev/null; wait "$s3_pid" 2>/dev/null; }
    servers+=(stop_s3)
    for _ in $(seq 300); do
        [ -s "$1/s3.endpoint" ] && break
        kill -0 "$s3_pid" 2>/dev/null || break
        sleep 0.1
    done
    FILMROOM_TEST_S3=$(cat "$1/s3.endpoint")
    [ -n "$FILMROOM_TEST_S3" ] || { cat "$1/s3.log" >&2; return 1; }
}
