#!/usr/bin/env bash
# A complete worker of eram in bash and psql. Its handlers are in handlers.sh.
#
#     DATABASE_URL=postgresql://... ./worker.sh default=4 mail=2
#
# One psql stays open for all that the worker says: its session proves that the worker lives.
# docs/languages/index.md says what the calls are.
#
# Nothing that comes out of the database is ever part of a command or of SQL text: args are files,
# text goes to SQL in base64, and what is written out plainly is a number.
set -uo pipefail
set -m # each job is a process group of its own, which can be ended as a whole
export PGCLIENTENCODING=UTF8 PGCONNECT_TIMEOUT=10

KNOWN_VERSIONS='0.1.*'                   # within major.minor the functions stay as they are
CALL_SECONDS=60                          # a call without an answer for so long has gone astray
GRACE_SECONDS=${ERAM_GRACE_SECONDS:-30}  # for jobs that run when the worker is told to stop
UNIT=$'\x1f'                             # between columns: no value has it, JSON escapes it

WORK=$(mktemp -d)
PSQL_PROCESS=''     # '' while there is no connection
WORKER=''           # '' while the server knows no living worker of ours
IS_STOPPING=''      # or since when
LOOK_BACKS=()       # when to give back what claims with lost answers brought
declare -A PIDS=()  # "id run queue" of the jobs in hand, by process
declare -A ENDS=()  # when their time is up
declare -A GONE=()  # found gone without having heard of it
declare -A LIMITS=()
ENDED=()            # "id run exit-code", to be reported; they outlive a lost connection

log() { printf '%(%FT%T%z)T %s\n' -1 "$*" >&2; }

source "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"
source "$(dirname "${BASH_SOURCE[0]}")/handlers.sh"

# The session is ours alone, without a pooler between, if it has the setting that psql begins with.
connect() {
    NONCE=$$x$RANDOM$RANDOM$RANDOM
    local options="${PGOPTIONS:-} -c eram.client=$NONCE"
    [[ ${ERAM_POOLED:-} ]] && options=${PGOPTIONS:-} # some poolers refuse what they do not know
    PGOPTIONS=$options psql --no-psqlrc --quiet --no-align --tuples-only --field-separator="$UNIT" \
        --dbname="${DATABASE_URL:-}" < "$WORK/to" > "$WORK/from" &
    PSQL_PROCESS=$!
    exec {TO}> "$WORK/to" {FROM}< "$WORK/from"
    ask 'select eram_version()' || return
    # shellcheck disable=SC2053  # it is a pattern
    if [[ ${ROWS[0]} != $KNOWN_VERSIONS ]]; then
        log "the database has eram ${ROWS[0]}, which this worker does not know"
        exit 2
    fi
    LOOK_BACKS=("$SECONDS" $((SECONDS + 15)))
}

disconnect() {
    [[ $PSQL_PROCESS ]] || return
    exec {TO}>&- {FROM}<&-
    kill "$PSQL_PROCESS" 2> /dev/null
    wait "$PSQL_PROCESS" 2> /dev/null
    PSQL_PROCESS=''
}

# Sends a statement; ROWS are its rows, SQLSTATE says how it ended. psql says what is wrong itself.
# Fails when the server refuses; when it does not answer, the connection is given up as well.
ask() {
    local line end="end$UNIT$RANDOM$RANDOM"
    ROWS=() SQLSTATE=''
    [[ $PSQL_PROCESS ]] || return
    printf '%s\n;\n\\echo %s :SQLSTATE\n' "$1" "$end" >&"$TO" 2> /dev/null
    while IFS= read -r -t "$CALL_SECONDS" -u "$FROM" line; do
        if [[ $line == "$end "* ]]; then
            SQLSTATE=${line#"$end "}
            [[ $SQLSTATE == 00000 ]]
            return
        fi
        ROWS+=("$line")
    done
    log 'the connection was lost'
    disconnect
    return 1
}

# An SQL expression for the text of standard input, whatever it is.
literal() { printf "convert_from(decode('%s', 'base64'), 'UTF8')" "$(base64 --wrap=0)"; }

# Proves that the worker lives, learns of cancelled jobs, and ticks.
beat() {
    local is_alive='' cancelled names pid id run
    if [[ $WORKER ]]; then
        # After a lost connection this takes the worker's lock on the new session.
        ask "select is_alive, (
                select string_agg(id || ' ' || run, ',')
                from unnest(cancelled_ids, cancelled_runs) as cancelled (id, run)
            ) from eram_heartbeat($WORKER)" || return
        IFS=$UNIT read -r is_alive cancelled <<< "${ROWS[0]}"
        for pid in "${!PIDS[@]}"; do
            read -r id run _ <<< "${PIDS[$pid]}"
            [[ ,$cancelled, == *",$id $run,"* ]] && kill_job "$pid"
        done
    fi
    if [[ $is_alive != t ]]; then
        names=$(printf '%s\n' "${!LIMITS[@]}" | literal)
        ask "select eram_start_worker(
            $(printf '%s:%s' "$HOSTNAME" $$ | literal),
            string_to_array(rtrim($names, e'\n'), e'\n'),
            case when current_setting('eram.client', true) = '$NONCE' then pg_backend_pid() end
        )" || return
        WORKER=${ROWS[0]}
        log "registered as worker $WORKER"
    fi
    # 0: commands of schedules are left to a client that can run them, see eram_tick().
    ask "select from eram_tick(0)"
    [[ $PSQL_PROCESS ]]
}

# Claims as many jobs of a queue as there is room for, and starts them.
fetch() {
    local queue=$1 pid line id run attempt max_attempts timeout handler args free=${LIMITS[$1]}
    for pid in "${!PIDS[@]}"; do
        [[ ${PIDS[$pid]#* * } == "$queue" ]] && ((free--))
    done
    ((free > 0)) || return 0
    if ! ask "select id, run, attempt, max_attempts, ceil(extract(epoch from timeout))::bigint,
            handler, args
        from eram_fetch($(printf %s "$queue" | literal), $free, $WORKER)"
    then
        # Taken for dead: the next beat registers anew.
        [[ $SQLSTATE == 42704 || $SQLSTATE == 55000 ]] && WORKER=''
        return 1
    fi
    for line in "${ROWS[@]}"; do
        IFS=$UNIT read -r id run attempt max_attempts timeout handler args <<< "$line"
        if [[ $IS_STOPPING ]]; then # the signal came meanwhile
            ask "select eram_release_jobs(array[$id::bigint], array[$run])"
        else
            start_job "$queue"
        fi
    done
}

# A claim whose answer was lost with its connection is nobody's: give it back.
look_back() {
    local queue each id run ids='' runs=''
    for each in "${PIDS[@]}" "${ENDED[@]}"; do
        read -r id run _ <<< "$each"
        ids+=,$id runs+=,$run
    done
    for queue in "${!LIMITS[@]}"; do
        ask "select eram_release_other_jobs($WORKER, $(printf %s "$queue" | literal),
            '{${ids#,}}', '{${runs#,}}')" || return
    done
    LOOK_BACKS=("${LOOK_BACKS[@]:1}")
}

# Sleeps until a job has ended or a signal has come, for a second at most.
listen() {
    local pid code
    read -r -t 1 -u "$BELL" pid code || return
    job_ended "$pid" "$code"
    while read -r -t 0 -u "$BELL"; do
        read -r -u "$BELL" pid code
        job_ended "$pid" "$code"
    done
}

stop() {
    [[ $IS_STOPPING ]] && IS_STOPPING=-1000000 || IS_STOPPING=$SECONDS
    log "SIGTERM or SIGINT: no more jobs; those that run have $GRACE_SECONDS s to end"
    echo >&"$BELL"
}

leave() {
    local pid
    for pid in "${!PIDS[@]}"; do kill -KILL -- "-$pid" 2> /dev/null; done
    disconnect
    rm -rf "$WORK"
}

for argument in "${@:-default=4}"; do
    limit=${argument##*=}
    [[ $argument == *=* && $limit =~ ^[0-9]+$ ]] || limit=4
    LIMITS[${argument%=*}]=$limit
done
mkfifo "$WORK/to" "$WORK/from" "$WORK/bell"
exec {BELL}<> "$WORK/bell" # whoever writes to it ends the worker's sleep
trap stop TERM INT
trap : PIPE # psql is gone: the next read says so
trap leave EXIT

next_beat=0
while [[ -z $IS_STOPPING ]] || ((${#PIDS[@]} + ${#ENDED[@]} > 0)); do
    if [[ $IS_STOPPING ]] && ((SECONDS - IS_STOPPING > GRACE_SECONDS)); then
        # Without a goodbye: the session ends with the process, and the jobs are rescued.
        log "${#PIDS[@]} jobs did not end in time"
        exit 1
    fi
    [[ $PSQL_PROCESS ]] || connect
    if ((SECONDS >= next_beat)); then
        next_beat=$((SECONDS + 1))
        beat
    fi
    end_late_jobs
    report
    if [[ $WORKER && $PSQL_PROCESS ]]; then
        ((${#LOOK_BACKS[@]} > 0 && SECONDS >= LOOK_BACKS[0])) && look_back
        for queue in "${!LIMITS[@]}"; do
            [[ $IS_STOPPING ]] || fetch "$queue"
        done
    fi
    listen
done
ask "select eram_stop_worker($WORKER)"
log 'stopped'
