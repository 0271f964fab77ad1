# Host side of every scenario (sourced). Starts the target under test through an adapter, runs a
# script in the VM, cleans up. All of it can be set from the environment:
#   TARGET   adapter: an executable with the verbs start stop kill9 freeze thaw (default target-tgtd),
#            and for 70-cdrom: exchange (cd.iso and next.iso in T_DIR change places, and the target looks) look;
#            "none" = a target that already runs at PORTAL
#   IQN      target name                     PORTAL, PORTAL2  host addresses of its portals
#   LUN_MB   size of the test LUN (256)      VM_OPTS          more options for vm-run
#   CHAP, CHAP_MUTUAL  user:secret           DIGEST=1         target must accept CRC32C digests
# An adapter sees T_DIR (its scratch directory), T_IQN, T_PORTALS, T_LUNS (backing files), T_CHAP,
# T_CHAP_MUTUAL, T_DIGEST. "start" returns once the portals listen and is called again after kill9.
# Only target-lunette takes portals with options (ADDR:PORT,group=N,state=STATE), the file T_DIR/states and
# the verb "states GROUP STATE...", which replaces it; and only it serves T_DIR/lunette.toml where that is there.
set -euo pipefail
scen=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm=$(dirname "$scen")
free_port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 10000))
		[ -n "$(ss -Hltn "sport = :$p")" ] || { echo $p; return; }
	done
}
: "${TARGET:=$scen/target-lunette}" "${IQN:=iqn.2014-09.com.example:target1}" "${LUN_MB:=256}"
: "${PORTAL:=127.0.0.1:$(free_port)}" "${PORTAL2:=127.0.0.1:$(free_port)}" "${VM_OPTS:=}"
adapter() ( # the target must not keep descriptors (locks, pipes) of whoever runs the scenario
	for f in /proc/self/fd/*; do f=${f##*/}; [ "$f" -le 2 ] || eval "exec $f>&-" 2>/dev/null || :; done
	exec "$TARGET" "$@" </dev/null
)
work=$(mktemp -d "${TMPDIR:-/tmp}/scenario.XXXXXX")
cleanup() {
	[ "$TARGET" = none ] || [ ! -e "$work/started" ] || adapter stop >/dev/null 2>&1 || true
	[ -z "${KEEP:-}" ] || { echo "kept: $work"; return; }
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
export T_DIR=$work T_IQN=$IQN T_PORTALS="$PORTAL" T_CHAP=${CHAP:-} T_CHAP_MUTUAL=${CHAP_MUTUAL:-} T_DIGEST=${DIGEST:-} T_LUNS=
target_start() { # [number of LUNs]
	local i
	if [ "$TARGET" = none ]; then return; fi
	for i in $(seq "${1:-1}"); do
		truncate -s "${LUN_MB}M" "$work/lun$i.img"
		T_LUNS="$T_LUNS $work/lun$i.img"
	done
	T_LUNS=${T_LUNS# }
	touch "$work/started"
	adapter start >"$work/start.log" 2>&1 || { echo "target did not start" >&2; cat "$work"/*.log >&2; exit 1; }
}
# Runs the script on stdin in the guest. A line "@host VERB" that it prints calls the adapter.
guest() {
	local p status
	# shellcheck disable=SC2086
	"$vm/vm-run" --timeout "${LIMIT:-180}" --env "IQN=$IQN" --env "PORTAL=$PORTAL" --env "PORTAL2=$PORTAL2" \
		--env "CHAP=${CHAP:-}" --env "CHAP_MUTUAL=${CHAP_MUTUAL:-}" $VM_OPTS "$@" -- - 2>&1 | while IFS= read -r line; do
		case $line in
		# shellcheck disable=SC2086
		"@host "*) adapter ${line#@host } >>"$work/verbs.log" 2>&1 && echo "[host] target ${line#@host }" || echo "[host] target ${line#@host } FAILED" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done
	return "${PIPESTATUS[0]}"
}
