#!/bin/sh
# enter POD [COMMAND...]: a command, or a shell, as the pod has it: in its cgroup and its network namespace.
world=WORLD groups=GROUPS
pod=${1:?use: enter POD [COMMAND...], one of: $(cd "$groups" && echo [ab]/*)} && shift
group=$(echo "$groups"/[ab]/shop-"$pod")
echo $$ > "$group/cgroup.procs" && exec ip netns exec "$world-shop-$pod" "${@:-sh}"
