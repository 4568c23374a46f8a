#!/usr/bin/env bash
# A real Slurm of one host, private to a folder: two nodes of two fake GPUs, accounting, preemption between partitions.
#   tests/cluster/slurm.sh up DIR [PORT]     afterwards: export SLURM_CONF=DIR/etc/slurm.conf
#   tests/cluster/slurm.sh down DIR
# Needs root and Debian's slurm-wlm munge slurmdbd mariadb-server (22.05 and later); nothing of systemd, no control groups.
# Everything listens on loopback, on PORT to PORT+4.
set -euo pipefail
action=${1:?up or down} dir=${2:?a folder} port=${3:-16817}
host=$(hostname -s)

stop() {  # by the ids that the daemons wrote themselves
    local name file
    for name in slurmd.n1 slurmd.n2 slurmctld slurmdbd munged mariadbd; do
        file=$dir/run/$name.pid
        if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; sleep 0.1; fi
    done
}

until_true() {  # waits ten seconds at most for a command to succeed
    local _
    for _ in $(seq 100); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.1; done
    echo "slurm.sh: waited in vain for: $*" >&2
    return 1
}

write_config() {
    local gpu
    mkdir -p "$dir"/{etc,state,spool/n1,spool/n2,log,run,dev,mysql}
    chmod 755 "$dir" "$dir/run"
    chown mysql "$dir/mysql" "$dir/run"
    head -c 1024 /dev/urandom >"$dir/etc/munge.key"
    chmod 400 "$dir/etc/munge.key"
    for gpu in 0 1 2 3; do mknod "$dir/dev/gpu$gpu" c 1 3; done  # like /dev/null
    cat >"$dir/etc/slurm.conf" <<CONF
ClusterName=ablations
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock,cred_expire=5
SlurmctldPort=$port
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
MailProg=/bin/true
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 3))
AccountingStorageTRES=gres/gpu
AccountingStoragePass=$dir/run/munge.sock
DefMemPerCPU=500
SlurmdTimeout=20
SlurmctldParameters=${SLURMCTLD_PARAMETERS:-preempt_send_user_signal}
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
KillWait=5
InactiveLimit=0
OverTimeLimit=0
MinJobAge=3600
MaxArraySize=1001
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=4 RealMemory=8000 Gres=gpu:fake:2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4 RealMemory=8000 Gres=gpu:fake:2
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE OverSubscribe=NO GraceTime=0
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
CONF
    cat >"$dir/etc/gres.conf" <<CONF
NodeName=n1 Name=gpu Type=fake File=$dir/dev/gpu[0-1]
NodeName=n2 Name=gpu Type=fake File=$dir/dev/gpu[2-3]
CONF
    cat >"$dir/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((port + 3))
SlurmUser=root
PidFile=$dir/run/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 4))
StorageUser=slurm
StoragePass=slurm
CONF
    chmod 600 "$dir/etc/slurmdbd.conf"
}

start_database() {
    local socket=$dir/mysql/socket who
    mariadb-install-db --user=mysql --datadir="$dir/mysql" --auth-root-authentication-method=normal --skip-test-db \
        >"$dir/log/mariadb-install.log" 2>&1
    setsid mariadbd --no-defaults --user=mysql --datadir="$dir/mysql" --socket="$socket" --bind-address=127.0.0.1 \
        --port=$((port + 4)) --pid-file="$dir/run/mariadbd.pid" --innodb-buffer-pool-size=64M \
        >"$dir/log/mariadbd.log" 2>&1 </dev/null &
    until_true mariadb-admin --no-defaults -uroot -S "$socket" ping
    for who in localhost 127.0.0.1; do
        echo "create user slurm@'$who' identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'$who';"
    done | mariadb --no-defaults -uroot -S "$socket"
}

all_idle() { [ "$(timeout 2 sinfo -h -o '%T %D' -p main)" = "idle 2" ]; }

case $action in
up)
    write_config
    export SLURM_CONF=$dir/etc/slurm.conf
    munged --force --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
        --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed"
    start_database
    slurmdbd
    until_true timeout 5 sacctmgr --noheader --immediate list cluster
    timeout 10 sacctmgr --immediate add cluster ablations >/dev/null 2>&1 || true
    slurmctld
    slurmd -N n1
    slurmd -N n2
    until_true all_idle
    sinfo -N -o '%N %T %c %m %G'
    ;;
down) stop ;;
*) echo "usage: $0 up|down DIR [PORT]" >&2; exit 2 ;;
esac
