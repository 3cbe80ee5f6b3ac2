#!/bin/bash
# machine.sh FOLDER: boots systemd as process 1 in namespaces of its own, on a copy-on-write view of this machine's files
# (FOLDER/files is what was written). As on Container-Optimized OS, /etc/systemd/system is empty at every boot: what stands
# in FOLDER/units is put there, the rest is up to the startup script. FOLDER/shared is its
# /mnt. Ends with 129 on reboot, 130 on power-off.
set -euo pipefail
folder=$1
name=kotoe-$$
mkdir -p "$folder"/{files,work,root,shared}

# A control group of its own is the root of what it sees: nothing else on this machine is touched.
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    group=/sys/fs/cgroup/$name
    mount_group=(-t cgroup2 cgroup2 "$folder/root/sys/fs/cgroup")
else
    group=/sys/fs/cgroup/systemd/$name
    mount_group=(-t cgroup -o "none,name=systemd" cgroup "$folder/root/sys/fs/cgroup/systemd")
fi
mkdir "$group"
trap 'rmdir "$group"/*/*/ "$group"/*/ "$group" 2>/dev/null || true' EXIT

inside() {
    mount --make-rprivate /
    mount -t overlay -o "lowerdir=/,upperdir=$folder/files,workdir=$folder/work" overlay "$folder/root"
    cd "$folder/root"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    if [[ ${mount_group[1]} == cgroup ]]; then
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd
    fi
    mount "${mount_group[@]}"
    mount -t tmpfs tmpfs dev
    for node in null zero full random urandom tty; do
        touch "dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    done
    touch dev/console dev/nvidia0 dev/nvidiactl dev/nvidia-uvm
    ln -s /proc/self/fd dev/fd
    mkdir dev/shm
    for place in run tmp etc/systemd/system; do
        mount -t tmpfs tmpfs "$place"
    done
    cp -a "$folder"/units/. etc/systemd/system
    mount --bind "$folder/shared" mnt
    mount --bind mnt/uptime proc/uptime # it would tell how long this machine has been up
    ip link set lo up
    exec chroot . /usr/bin/env -i container=kotoe PATH=/usr/local/bin:/usr/bin:/usr/sbin \
        /lib/systemd/systemd --unit=machine.target --log-target=journal
}

(
    echo "$BASHPID" > "$group/cgroup.procs"
    export folder
    # shellcheck disable=SC2016
    exec unshare --pid --mount --net --uts --ipc --cgroup --fork --kill-child \
        bash -c "$(declare -p mount_group); $(declare -f inside); set -eu; inside"
)
