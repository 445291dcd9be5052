#!/usr/bin/env bash
# A Ray cluster of several nodes on this machine, to try a run on before it goes to a real one.
#
#   cluster/local.sh start [--nodes 3] [--cpus 2] [--gpus 0]   CPUs and GPUs of each node; GPUs are pretended
#   cluster/local.sh status
#   cluster/local.sh stop
#
# Environment: DROP_RAY_CLUSTER is its folder (another folder is another cluster; keep it short, Ray's sockets lie in
# it), PYTHON an interpreter that has drop_ray, RAY_AUTH_MODE=disabled goes without a token.
# Every port is a free one, and `stop` ends only what `start` started: other Ray clusters here go on.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${DROP_RAY_CLUSTER:-/tmp/drop-ray-$(id -u)}
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3)
# Jobs call `python`: it must be this one.
bin=$(cd "$(dirname "$python")" && pwd)
export PATH="$bin:$PATH"
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token} RAY_USAGE_STATS_ENABLED=0
# Joining another cluster is not what this is for.
unset RAY_ADDRESS
# 75 MiB is the least that Ray takes: weights and results go through the store, not through Ray's memory.
object_store=$((80 * 1024 * 1024))

main() {
    case ${1:-} in
        start) shift && start "$@" ;;
        stop) stop ;;
        status) status ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
    esac
}

start() {
    local nodes=3 cpus=2 gpus=0
    while (($#)); do
        case $1 in
            --nodes) nodes=$2 ;;
            --cpus) cpus=$2 ;;
            --gpus) gpus=$2 ;;
            *) fail "$1 is not an option; there are --nodes, --cpus and --gpus" ;;
        esac
        shift 2
    done
    [[ -z $(running) ]] || fail "a cluster runs already, at $(cat "$folder/address"); first: $0 stop"
    [[ -f $folder/address || -z $(ls -A "$folder" 2>/dev/null) ]] || fail "$folder has files that are not a cluster's"
    rm -rf "$folder"
    mkdir -m 700 "$folder"
    make_token
    local head dashboard
    read -r head dashboard <<<"$(free_ports 2)"
    echo "http://127.0.0.1:$dashboard" >"$folder/address"
    trap 'stop >/dev/null; exit 1' ERR INT TERM
    start_node 0 --head --port "$head" --include-dashboard true --dashboard-host 127.0.0.1 --dashboard-port "$dashboard"
    wait_for_nodes 1
    local node
    for ((node = 1; node < nodes; node++)); do start_node "$node" --address "127.0.0.1:$head"; done
    wait_for_nodes "$nodes"
    trap - ERR INT TERM
    echo "A Ray cluster of $nodes nodes, $cpus CPUs each, dashboard http://127.0.0.1:$dashboard"
    next_steps
}

# One node in the background: number, then its own options. It keeps its processes, and ends them when it is ended.
# A folder for each, as if on machines of their own: in a common one, a node unpacks a job's working directory over the
# one that another node works in.
start_node() {
    local number=$1 ports
    shift
    read -r -a ports <<<"$(free_ports 6)"
    RAY_worker_register_timeout_seconds=120 setsid "$python" -m ray.scripts.scripts start "$@" --block \
        --node-ip-address 127.0.0.1 --temp-dir "$folder/n$number" --num-cpus "$cpus" --num-gpus "$gpus" \
        --object-store-memory "$object_store" --node-manager-port "${ports[0]}" --object-manager-port "${ports[1]}" \
        --dashboard-agent-listen-port "${ports[2]}" --dashboard-agent-grpc-port "${ports[3]}" \
        --runtime-env-agent-port "${ports[4]}" --metrics-export-port "${ports[5]}" \
        >"$folder/node-$number.log" 2>&1 </dev/null &
    echo $! >"$folder/node-$number.pid"
}

wait_for_nodes() {
    local deadline=$((SECONDS + 120))
    until [[ $(alive_nodes) == "$1" ]]; do
        [[ $(running | wc -w) == "$(find "$folder" -name 'node-*.pid' | wc -l)" ]] || give_up "a node ended"
        ((SECONDS < deadline)) || give_up "not ready after two minutes"
        sleep 0.5
    done
}

status() {
    [[ -n $(running) ]] || fail "no cluster runs in $folder"
    echo "$(alive_nodes) nodes alive at $(cat "$folder/address")"
    next_steps
}

stop() {
    local pids
    pids=$(running)
    if [[ -n $pids ]]; then end_with_descendants $pids; fi
    if [[ -f $folder/address ]]; then rm -rf "$folder"; fi
    echo "stopped"
}

# Process ids of the nodes that run. A number may have gone to another program since: its arguments tell.
running() {
    local file pid
    for file in "$folder"/node-*.pid; do
        [[ -f $file ]] || continue
        pid=$(<"$file")
        if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "--temp-dir $folder/n"; then echo "$pid"; fi
    done
}

next_steps() {
    echo
    if [[ $RAY_AUTH_MODE == token ]]; then
        echo "  export RAY_AUTH_MODE=token${made_token:+ RAY_AUTH_TOKEN_PATH=$made_token}"
    fi
    echo "  drop-ray submit jobs/configs/demo.yaml --address $(cat "$folder/address") --set store=s3://BUCKET/PREFIX \\"
    echo "      --env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY"
    echo "  $0 stop"
}

# A token of its own, unless the environment has one.
make_token() {
    [[ $RAY_AUTH_MODE == token && -z ${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-} ]] || return 0
    (umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$folder/auth_token")
    use_made_token
}

use_made_token() {
    [[ -f $folder/auth_token ]] || return 0
    made_token=$folder/auth_token
    export RAY_AUTH_TOKEN_PATH=$made_token
}

free_ports() {
    "$python" - "$1" <<'PYTHON'
import socket
import sys

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in sockets))
PYTHON
}

alive_nodes() {
    "$python" - "$(cat "$folder/address")" <<'PYTHON'
import json
import os
import sys
import urllib.request
from pathlib import Path

headers = {}
if os.environ["RAY_AUTH_MODE"] == "token":
    token = os.environ.get("RAY_AUTH_TOKEN") or Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    headers = {"Authorization": f"Bearer {token.strip()}"}
try:
    # The cluster is on this machine: no proxy lies between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{sys.argv[1]}/nodes?view=summary", headers=headers)
    nodes = json.load(opener.open(request, timeout=10))["data"]["summary"]
    print(sum(node["raylet"]["state"] == "ALIVE" for node in nodes))
except (OSError, ValueError):
    print(0)
PYTHON
}

# Asks the nodes to end, waits, and kills what is left of them and of what they had started.
end_with_descendants() {
    "$python" - "$@" <<'PYTHON'
import contextlib
import sys

import psutil

nodes = []
for pid in sys.argv[1:]:
    with contextlib.suppress(psutil.NoSuchProcess):
        nodes.append(psutil.Process(int(pid)))
everything = [process for node in nodes for process in [node, *node.children(recursive=True)]]
for node in nodes:
    node.terminate()
psutil.wait_procs(nodes, timeout=10)
for process in everything:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
psutil.wait_procs(everything, timeout=10)
PYTHON
}

give_up() {
    tail -n 20 "$folder"/node-*.log >&2
    stop >/dev/null
    fail "$1; see above"
}

fail() {
    echo "$0: $1" >&2
    exit 1
}

made_token=
use_made_token
main "$@"
