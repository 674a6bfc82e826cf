#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# Tests netns-testbed/testbed: that it builds a working network, leaves it alone when it is whole,
# repairs it when it is not, and removes it without a trace and without touching anything else.
# A testbed that is up when this starts is removed.

# shellcheck disable=SC2016 # many scripts here are quoted for another shell

set -uo pipefail

testbed=$(realpath "$(dirname "$0")/../netns-testbed/testbed")
name=${SIDESTEP_TESTBED:-ss}
folder=sidestep-testbed${SIDESTEP_TESTBED:+-$SIDESTEP_TESTBED}
foreign=testbed-foreign-$$
passed=0
failed=0
foreign_pid=

# check WHAT CMD...: CMD succeeds
check() {
	local what=$1

	shift
	if "$@"; then
		echo "ok $what"
		passed=$((passed + 1))
	else
		echo "not ok $what"
		failed=$((failed + 1))
	fi
}

# check_status WHAT STATUS CMD...: CMD exits with STATUS
check_status() {
	local what=$1 expected=$2 status=0

	shift 2
	"$@" >/dev/null 2>&1 || status=$?
	check "$what" [ "$status" -eq "$expected" ]
}

quietly() {
	"$@" >/dev/null 2>&1
}

eventually() {
	local deadline=$((SECONDS + 5))

	until "$@"; do
		((SECONDS < deadline)) || return 1
		sleep 0.02
	done
}

on() {
	"$testbed" exec "$@"
}

cleanup() {
	quietly "$testbed" down
	[[ -z $foreign_pid ]] || kill "$foreign_pid" 2>/dev/null
	wait
	quietly ip netns del "$foreign"
	quietly rmdir "$cgroup_root/$foreign"
}

namespace_inodes() {
	stat --dereference --format '%n %i' /run/netns/"$name"-*
}

hosts() {
	"$testbed" status | cut -d ' ' -f 1 | sort | paste -sd ' '
}

whole() {
	local text

	text=$("$testbed" status) && [[ $text == *" up "* && $text != *incomplete* ]]
}

# A server that says hello to each connection, on both address families
start_server() {
	"$testbed" exec s1 perl -MIO::Socket::IP -e '
		my $listener = IO::Socket::IP->new(LocalHost => "::", LocalPort => 8080, Listen => 5,
			V6Only => 0, ReuseAddr => 1) or die $@;
		while (my $peer = $listener->accept) { print $peer "hello\n"; close $peer }' &
	server_pid=$!
	disown # or the shell reports its end
}

says_hello() {
	[[ $(on c1 bash -c 'exec 3<>"/dev/tcp/$0/8080" && read -r -t 2 line <&3 && echo "$line"' "$1" \
		2>/dev/null) == hello ]]
}

gone() {
	! kill -0 "$1" 2>/dev/null
}

test_up() {
	local before

	check "up" "$testbed" up
	check "every host is up" whole
	check "the default hosts" [ "$(hosts)" == "c1 lb r s1 s2" ]
	before=$(namespace_inodes)
	check "up again" "$testbed" up
	check "up again leaves the namespaces" [ "$(namespace_inodes)" == "$before" ]
	check "status --json" quietly perl -e \
		'local $/; $_ = <STDIN>; exit !(/"name": "lb", "role": "balancer"/ && /"10\.0\.21\.2"/)' \
		< <("$testbed" status --json)
}

test_network() {
	local address

	for address in 10.0.3.2 fd00:1:3::2 10.0.2.2 fd00:1:2::2; do
		check "c1 pings $address" quietly on c1 ping -c 1 -W 2 "$address"
	done
	start_server
	check "TCP from c1 to s1, IPv4" eventually says_hello 10.0.3.2
	check "TCP from c1 to s1, IPv6" eventually says_hello fd00:1:3::2
	check "a VIP that nobody serves is refused" is_refused
}

# Not after the minutes of a connection attempt that nobody answers
is_refused() {
	local status=0

	quietly on c1 timeout 15 bash -c 'exec 3<>/dev/tcp/10.99.0.1/80' || status=$?
	((status != 0 && status != 124))
}

test_exec() {
	check_status "exec passes the exit status on" 7 on c1 bash -c 'exit 7'
	check_status "exec of a command that does not exist" 127 on c1 /nonexistent/command
	check_status "exec on a host that does not exist" 2 on c0 true
	check_status "exec on a host that is not up" 1 on s9 true
	check "exec runs in the host's cgroup" \
		[ "$(on s1 grep ^0:: /proc/self/cgroup)" == "0::/$folder/s1" ]
	check "exec names the host's cgroup" on s1 sh -c 'grep -qx $$ "$SIDESTEP_CGROUP/cgroup.procs"'
	check "exec names a folder for pins" \
		on s1 sh -c 'mkdir "$SIDESTEP_PIN_DIR" && [ "$(stat -fc %T "$SIDESTEP_PIN_DIR")" = bpf_fs ]'
	check "exec holds no lock" timeout 5 "$testbed" up
}

# What the demo sees of the balancer's link: all of it, or it says so
test_capture() {
	check "a capture ends, and says what it lost" bash -c '
		source "$1/lib.sh"; set -e; file=$(mktemp); trap "rm -f $file $file.log" EXIT
		capture_start "$file"
		on c1 ping -q -c 1 -W 1 10.99.0.1 >/dev/null || true
		capture_stop "$file"
		[[ $(capture_count "$file" icmp) -ge 1 ]] && ! kill -0 "$CAPTURE_PID" 2>/dev/null &&
			grep -q "packets captured" "$file.log"' - "${testbed%/*}"
}

test_lock() {
	check_status "a lock in a folder of others is refused" 1 unshare -m sh -c \
		'mount -t tmpfs -o mode=1777 none /run/sidestep && exec "$1" up' - "$testbed"
}

test_repair() {
	on r ip link del to-s1
	check "status sees a link that is missing" eval '! whole'
	check "up repairs it" "$testbed" up
	check "every host is up again" whole
	check "up with another shape" "$testbed" up --servers 1 --clients 2
	check "the hosts of that shape" [ "$(hosts)" == "c1 c2 lb r s1" ]
	check_status "up with too many servers" 2 "$testbed" up --servers 10
}

# Kills "up" as soon as the namespace of the given host appears
killed_up() {
	local pid

	"$testbed" down
	"$testbed" up >/dev/null 2>&1 &
	pid=$!
	until [[ -e /run/netns/$name-$1 ]] || gone "$pid"; do :; done
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null
	[[ $? -eq 137 ]]
}

test_killed_up() {
	local host

	for host in r c1 lb s2; do
		check "up is killed at $host" killed_up "$host"
		check "up after that" "$testbed" up
		check "every host is up after that" whole
	done
}

nothing_is_left() {
	local left

	left=$(compgen -G "/run/netns/$name-*"
		compgen -G "$cgroup_root/$folder"
		compgen -G "/sys/fs/bpf/$folder")
	[[ -z $left ]] || { echo "# left: $left"; return 1; }
}

test_down() {
	start_server
	check "a server runs" eventually says_hello 10.0.3.2
	on c1 bash -c 'mkdir -p "$SIDESTEP_PIN_DIR/maps" "$SIDESTEP_CGROUP/inner"'
	check "down" "$testbed" down
	check "down ends the server" eventually gone "$server_pid"
	check "down leaves nothing" nothing_is_left
	check "down twice" "$testbed" down
	check "status when down" [ "$("$testbed" status)" == "the testbed is down" ]
	check_status "exec when down" 1 on c1 true
}

test_foreign() {
	check "a foreign namespace is left alone" [ -e "/run/netns/$foreign" ]
	check "a foreign process and cgroup are left alone" \
		grep -qx "$foreign_pid" "$cgroup_root/$foreign/cgroup.procs"
}

cgroup_root=$(grep -m 1 ' cgroup2 ' /proc/mounts | cut -d ' ' -f 2)
trap cleanup EXIT
"$testbed" down || exit 1
ip netns add "$foreign"
mkdir "$cgroup_root/$foreign"
sleep 300 &
foreign_pid=$!
echo "$foreign_pid" >"$cgroup_root/$foreign/cgroup.procs"

test_up
test_network
test_exec
test_capture
test_lock
test_repair
test_killed_up
test_down
test_foreign

echo "$passed passed, $failed failed"
((failed == 0))
