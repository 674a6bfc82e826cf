# shellcheck shell=bash disable=SC2034,SC2155
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# What the demo and the experiments share: a testbed with all programs loaded and servers started,
# a capture on the balancer's link, and counters. Source it after setting SIDESTEP_TESTBED.

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
readonly HERE
readonly BUILD=${SIDESTEP_BUILD:-$HERE/../build}
readonly SIDESTEP=$BUILD/sidestep
readonly VIP4=10.99.0.1
readonly VIP6=fd00:99::1
WORK=

on() {
	"$HERE/testbed" exec "$@"
}

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "${0##*/}: $*"
	exit 1
}

# Removes the testbed and all that ran in it, also after an error or Ctrl-C.
clean_up() {
	local status=$?

	trap '' INT TERM
	"$HERE/testbed" down || status=1
	[[ -z $WORK ]] || rm -rf "$WORK"
	exit $status
}

# testbed_start SERVERS: hosts, programs, configuration; $SIDESTEP_CLIENTS clients, c1 with programs
testbed_start() {
	local n

	trap clean_up EXIT
	set -E
	trap 'say "${0##*/}: failed at line $LINENO: $BASH_COMMAND"' ERR
	trap 'exit 130' INT TERM
	WORK=$(mktemp -d)
	"$HERE/testbed" up --servers "$1" --clients "${SIDESTEP_CLIENTS:-1}"
	for ((n = 1; n <= $1; n++)); do
		on "s$n" "$SIDESTEP" host up "$HERE/config/server.yaml"
	done
	on lb "$SIDESTEP" balancer up "$HERE/config/balancer.yaml"
	on c1 "$SIDESTEP" host up "$HERE/config/client.yaml"
}

# nginx_start HOST: answers with the host's name; /1g is a file of 1 GB
nginx_start() {
	local host=$1 dir=$WORK/$1

	mkdir -p "$dir"
	chmod 755 "$WORK" "$dir"
	echo "$host" >"$dir/index.html"
	truncate -s 1G "$dir/1g"
	cat >"$dir/nginx.conf" <<-CONF
		user www-data;
		worker_processes 1;
		pid $dir/pid;
		error_log $dir/error.log;
		events { worker_connections 4096; }
		http {
			access_log off;
			sendfile on;
			keepalive_requests 100000;
			server {
				listen 8080;
				listen [::]:80 ipv6only=on;
				root $dir;
			}
		}
	CONF
	on "$host" nginx -c "$dir/nginx.conf" -e "$dir/error.log"
}

iperf_start() {
	on "$1" iperf3 --server --daemon --logfile "$WORK/iperf3-$1.log"
	wait_until "iperf3 to listen" listens "$1" 5201
}

listens() {
	[[ -n $(on "$1" ss -Hltn "sport = :$2") ]]
}

# wait_until WHAT COMMAND...: polls for at most 5 seconds
wait_until() {
	local what=$1 tries

	shift
	for ((tries = 0; tries < 250; tries++)); do
		"$@" && return
		sleep 0.02
	done
	die "timed out waiting for $what"
}

# --- the balancer's link -----------------------------------------------------------------------

# capture_start FILE: every packet between the router and the balancer. In the router, because XDP
# takes packets before a capture on the balancer could see them.
capture_start() {
	# exec: else the process to be ended later would be a shell that waits for tcpdump
	exec "$HERE/testbed" exec r tcpdump --immediate-mode -i to-lb -nn -U -w "$1" -Z root 2>"$1.log" &
	CAPTURE_PID=$!
	wait_until "the capture" grep -q 'listening on' "$1.log"
}

capture_stop() {
	sleep 0.2 # a packet still under way would count against us: let it come
	kill -TERM "$CAPTURE_PID" # INT is ignored by what a script runs in the background
	wait "$CAPTURE_PID" || true
	grep -q '^0 packets dropped by kernel' "$1.log" ||
		die "the capture lost packets, or was not ended: $(tail -n 1 "$1.log")"
}

# capture_count FILE FILTER: how many packets of the capture match
capture_count() {
	tcpdump -nn -r "$1" "$2" 2>/dev/null | wc -l
}

readonly NEIGHBOUR_DISCOVERY='arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 136)'
# tcpdump's tcp[] does not look into IPv6; without extension headers the flags are at 40 + 13
readonly SYN='(ip and tcp and tcp[13] & 18 = 2) or (ip6 and ip6[6] = 6 and ip6[53] & 18 = 2)'

# --- counters ----------------------------------------------------------------------------------

# host_counter HOST NAME
host_counter() {
	on "$1" "$SIDESTEP" host status --json | jq ".counters.$2"
}

# link_counters DEVICE: "rx_packets rx_bytes tx_packets tx_bytes" of a device of the router
link_counters() {
	on r ip -s -j link show "$1" |
		jq -r '.[0].stats64 | "\(.rx.packets) \(.rx.bytes) \(.tx.packets) \(.tx.bytes)"'
}

# Segments with a wrong TCP checksum, on all hosts together
checksum_errors() {
	local host sum=0

	for host in "$@"; do
		sum=$((sum + $(on "$host" nstat -asz TcpInCsumErrors |
			awk '$1 == "TcpInCsumErrors" { print $2 }')))
	done
	echo $sum
}
