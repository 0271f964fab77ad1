#!/bin/sh
# The library against libiscsi (Debian's libiscsi-bin) in one run: the server on one processor, whoever reads on another.
# compare.sh [ROUNDS] [SECONDS]; first: cargo build --release -p lunette && cargo build --release -p lunette-initiator --example load
set -eu
rounds=${1:-3}
seconds=${2:-5}
target=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
name=iqn.2026-11.io.lunette:perf
taskset -c 0 "$target/lunette" serve ram:256M --listen 127.0.0.1:0 --name $name --state-dir "$folder/state" >"$folder/out" 2>&1 &
server=$!
taskset -c 0 "$target/examples/load" floor-server 1048576 &
floor=$!
trap 'kill $server $floor; rm -r "$folder"' EXIT
until grep -q '^Portal' "$folder/out"; do sleep 0.1; done
url=iscsi://$(sed -n 's/^Portal *\([0-9.:]*\).*/\1/p' "$folder/out" | head -1)/$name/1
libiscsi() {
    python3 - "$@" <<'PYTHON'
import re, resource, subprocess, sys
out = subprocess.run(["taskset", "-c", "1", "iscsi-perf", *sys.argv[2:]], capture_output=True, text=True).stdout
used = resource.getrusage(resource.RUSAGE_CHILDREN)
rate = int(re.findall(r"iops average (\d+)", out)[-1])
each = (used.ru_utime + used.ru_stime) * 1e6 / (rate * int(sys.argv[1]))
print(f"libiscsi  {rate:>8} reads/s {'':>14} {each:>8.2f} µs processor time each")
PYTHON
}
for round in $(seq "$rounds"); do
    echo "4 KiB at random, 32 at a time"
    libiscsi "$seconds" -m 32 -b 8 -r -t "$seconds" "$url"
    taskset -c 1 "$target/examples/load" "$url" 8 32 "$seconds" random
    taskset -c 1 "$target/examples/load" "$url" 8 32 "$seconds" random futures
    echo "1 MiB in order, 4 at a time"
    libiscsi "$seconds" -m 4 -b 2048 -t "$seconds" "$url"
    taskset -c 1 "$target/examples/load" "$url" 2048 4 "$seconds"
    taskset -c 1 "$target/examples/load" floor 1048576 4 "$seconds"
done
