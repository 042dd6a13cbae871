#!/bin/sh
# enter POD [COMMAND...]: a command, or a shell, as the pod has it: in its cgroup and its network namespace.
world=WORLD groups=GROUPS
pods=$(cd $groups && echo [ab]/shop-* | sed 's|[ab]/shop-||g')
pod=${1:?use: enter POD [COMMAND...]; pods: $pods} && shift
group=$(echo $groups/[ab]/shop-"$pod")
[ -d "$group" ] || { echo "there is no pod $pod; pods: $pods" >&2; exit 2; }
echo $$ > "$group/cgroup.procs" && exec ip netns exec "$world-shop-$pod" "${@:-sh}"
