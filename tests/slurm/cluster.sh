#!/usr/bin/env bash
# A real SLURM on loopback, for the tests: `cluster.sh start FOLDER | stop FOLDER`, as root. Two nodes, which are two slurmd on this machine.
# Needs Debian's slurmctld, slurmd, slurm-client and munge; neither systemd nor cgroups. What each odd line is for:
#   - the job step of Snakemake's plugin strips SLURM_CONF, so the configuration is linked to its compiled-in place;
#     a cluster that is already configured there is never shadowed
#   - a GPU is counted, and CUDA_VISIBLE_DEVICES set, only for a character device: two clones of /dev/null
#   - short scheduler intervals start a job within a second or two
#   - each node has two CPUs, whatever the machine has
#   - without cgroups, memory is enforced by SLURM's own sampling of processes, every second
#   - a job in the partition `urgent` preempts others, as the jobs of a node's owners do
set -euo pipefail
folder=$(realpath -m "${2:?the folder of the cluster}")
export SLURM_CONF=$folder/slurm.conf

wait_for() { # wait_for SECONDS COMMAND...
  local tries=$(($1 * 10)); shift
  for _ in $(seq "$tries"); do timeout 5 "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done
  echo "timeout: $*" >&2; tail -n 20 "$folder"/*.log >&2; return 1
}

end() { # end PID_FILE
  local pid; pid=$(cat "$1" 2> /dev/null) || return 0
  kill "$pid" 2> /dev/null || true
  for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || return 0; sleep 0.1; done
  kill -KILL "$pid" 2> /dev/null || true
}

configure() {
  local memory; memory=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 * 9 / 10))
  mkdir -p "$folder"/{state,munge,spool-pflow0,spool-pflow1}; chmod 755 "$folder"; chmod 700 "$folder/munge"
  head -c 128 /dev/urandom > "$folder/munge/key"; chmod 400 "$folder/munge/key"
  for i in 0 1; do mknod "$folder/gpu$i" c 1 3; done
  printf 'AutoDetect=off\nName=gpu Type=fake File=%s/gpu[0-1]\n' "$folder" > "$folder/gres.conf"
  cat > "$SLURM_CONF" << CONF
ClusterName=pflow
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmctldPort=26817
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MinJobAge=300
KillWait=5
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=pflow0 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=26818 CPUs=2 RealMemory=$memory Gres=gpu:fake:2 State=UNKNOWN
NodeName=pflow1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=26819 CPUs=2 RealMemory=$memory Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes=pflow[0-1] Default=YES MaxTime=INFINITE DefMemPerCPU=512 GraceTime=10
PartitionName=gpu Nodes=pflow[0-1] MaxTime=INFINITE DefMemPerCPU=512
PartitionName=urgent Nodes=pflow[0-1] MaxTime=INFINITE DefMemPerCPU=512 PriorityTier=10 PreemptMode=off
CONF
}

start() {
  for name in slurm.conf gres.conf; do
    [ ! -e "/etc/slurm/$name" ] || { echo "/etc/slurm/$name exists: a real cluster is configured here, and is left alone" >&2; exit 3; }
  done
  configure
  mkdir -p /etc/slurm; ln -sfn "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/
  munged --force --num-threads=2 --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge/seed" 2> "$folder/munged.err"
  wait_for 10 bash -c "munge --socket=$folder/munge.socket -n | unmunge --socket=$folder/munge.socket"
  slurmctld -f "$SLURM_CONF"
  wait_for 30 scontrol ping
  for node in pflow0 pflow1; do
    slurmd -f "$SLURM_CONF" -N "$node"
    wait_for 30 bash -c "sinfo -h -n $node -o %t | grep -Eq '^(idle|mix|alloc)'"
  done
}

stop() {
  timeout 5 scancel --user root > /dev/null 2>&1 && wait_for 15 bash -c "[ -z \"\$(squeue -h)\" ]" || true
  for name in pflow1 pflow0 slurmctld munged; do end "$folder/$name.pid"; done
  for name in slurm.conf gres.conf; do
    if [ "$(readlink "/etc/slurm/$name" 2> /dev/null)" = "$folder/$name" ]; then rm "/etc/slurm/$name"; fi
  done
}

case ${1:-} in
  start | stop) "$1" ;;
  *) echo "usage: $0 start|stop FOLDER" >&2; exit 2 ;;
esac
