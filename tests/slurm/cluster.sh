#!/usr/bin/env bash
# A real SLURM of one node on loopback, for the tests: `cluster.sh start FOLDER | stop FOLDER`, as root.
# Needs Debian's slurmctld, slurmd, slurm-client and munge; neither systemd nor cgroups. What each odd line is for:
#   - the job step of Snakemake's plugin strips SLURM_CONF, so the configuration is linked to its compiled-in place;
#     a cluster that is already configured there is never shadowed
#   - a GPU is counted, and CUDA_VISIBLE_DEVICES set, only for a character device: two clones of /dev/null
#   - short scheduler intervals start a job within a second or two
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
  local cpus memory; cpus=$(nproc); memory=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 * 9 / 10))
  mkdir -p "$folder"/{state,spool,munge}; chmod 755 "$folder"; chmod 700 "$folder/munge"
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
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MinJobAge=300
KillWait=5
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName=pflow0 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=26818 CPUs=$cpus RealMemory=$memory Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes=pflow0 Default=YES MaxTime=INFINITE DefMemPerCPU=512
PartitionName=gpu Nodes=pflow0 MaxTime=INFINITE DefMemPerCPU=512
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
  slurmd -f "$SLURM_CONF" -N pflow0
  wait_for 30 bash -c "sinfo -h -n pflow0 -o %t | grep -Eq '^(idle|mix|alloc)'"
}

stop() {
  for name in slurmd slurmctld munged; do end "$folder/$name.pid"; done
  for name in slurm.conf gres.conf; do
    if [ "$(readlink "/etc/slurm/$name" 2> /dev/null)" = "$folder/$name" ]; then rm "/etc/slurm/$name"; fi
  done
}

case ${1:-} in
  start | stop) "$1" ;;
  *) echo "usage: $0 start|stop FOLDER" >&2; exit 2 ;;
esac
