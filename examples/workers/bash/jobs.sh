# Runs jobs and reports what becomes of them. A handler is a function that run_handler() calls in a
# process of its own: its standard input are the job's args, what it prints is the result, as JSON,
# and what it says on standard error the error, if it ends with an exit code other than 0.

# Starts the job that fetch() has read; a line on the bell says how it has ended.
start_job() {
    local folder=$WORK/$id.$run
    mkdir "$folder"
    printf '%s' "$args" > "$folder/args"
    (
        trap - INT PIPE EXIT
        trap : TERM # it is for the handler, and is reset for it
        exec {TO}>&- {FROM}<&- 3> "$folder/outcome" 2> "$folder/error" > "$folder/result"
        JOB=$folder JOB_ID=$id JOB_RUN=$run JOB_ATTEMPT=$attempt JOB_MAX_ATTEMPTS=$max_attempts
        export JOB JOB_ID JOB_RUN JOB_ATTEMPT JOB_MAX_ATTEMPTS
        (run_handler "$handler" < "$folder/args")
        code=$?
        echo "$BASHPID $code" >&"$BELL"
        exit "$code"
    ) &
    PIDS[$!]="$id $run $1"
    [[ $timeout ]] && ENDS[$!]=$((SECONDS + timeout))
}

kill_job() {
    kill -TERM -- "-$1" 2> /dev/null
}

end_late_jobs() {
    local pid id run
    for pid in "${!ENDS[@]}"; do
        if ((SECONDS >= ENDS[$pid])); then
            read -r id run _ <<< "${PIDS[$pid]}"
            touch "$WORK/$id.$run/late"
            kill_job "$pid"
        fi
    done
    # One that was killed rings no bell. One that has rung it may be gone before it is heard: what is
    # found gone for the second time has not rung.
    for pid in "${!PIDS[@]}"; do
        kill -0 "$pid" 2> /dev/null && continue
        [[ ${GONE[$pid]:-} ]] && job_ended "$pid" 137 || GONE[$pid]=1
    done
}

job_ended() {
    [[ $1 && ${PIDS[$1]:-} ]] || return
    local id run
    read -r id run _ <<< "${PIDS[$1]}"
    ENDED+=("$id $run $2")
    unset "PIDS[$1]" "ENDS[$1]" "GONE[$1]"
}

# One by one; one whose answer was lost is reported again: the server accepts it once.
report() {
    local id run code
    while ((${#ENDED[@]} > 0)); do
        read -r id run code <<< "${ENDED[0]}"
        if ! report_job; then
            # No answer, or a server that is full: again later.
            [[ $SQLSTATE == 22* || $SQLSTATE == 54* ]] || return
            # What cannot be stored, such as a result that is no JSON: the job fails.
            ask "select eram_fail_job($id, $run, 'its outcome was refused, with SQLSTATE $SQLSTATE',
                '{\"type\": \"refused\"}')"
            [[ $SQLSTATE ]] || return
        fi
        [[ ${ROWS[*]} && ${ROWS[*]} != f ]] || log "run $run of job $id was over already"
        rm -rf "${WORK:?}/$id.$run"
        ENDED=("${ENDED[@]:1}")
    done
}

report_job() {
    local folder=$WORK/$id.$run kind value result=null
    { read -r kind; value=$(cat); } < "$folder/outcome"
    if [[ -e $folder/late ]]; then
        kind=late
    elif ((code != 0)); then
        kind=fail
    fi
    case $kind in
        done) ROWS=(t) ;; # by the handler's own transaction
        snooze) ask "select eram_snooze_job($id, $run, make_interval(secs => $(seconds "$value")))" ;;
        discard) ask "select eram_discard_job($id, $run, $(printf %s "$value" | storable))" ;;
        cancel) ask "select eram_cancel_job($id, $(printf %s "$value" | storable), $run)" ;;
        late) ask "select eram_fail_job($id, $run, 'timed out', '{\"type\": \"timeout\"}')" ;;
        fail)
            [[ -s $folder/error ]] || echo "ended with exit code $code" > "$folder/error"
            ask "select eram_fail_job($id, $run, $(storable < "$folder/error"),
                '{\"type\": \"exit\", \"code\": $code}')"
            ;;
        *)
            [[ -s $folder/result ]] && result=$(literal < "$folder/result")
            ask "select eram_complete_jobs(array[$id::bigint], array[$run], array[$result::jsonb])"
            ;;
    esac
}

# Text that the database can hold: the last of it, valid UTF-8 without characters of code 0.
storable() {
    local text
    text=$(tail -c 2000 | tr -d '\000' | iconv -c -f UTF-8 -t UTF-8)
    printf %s "$text" | literal
}

# A number, or else a minute.
seconds() { [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ ]] && printf %s "$1" || printf 60; }

# What handlers may call.

snooze() { printf 'snooze\n%s' "$1" >&3; exit 0; }
discard() { printf 'discard\n%s' "$1" >&3; exit 0; }
cancel() { printf 'cancel\n%s' "$1" >&3; exit 0; }

# Runs SQL from standard input in a session of its own, where :'args', :job_id and :job_run are the
# job's. psql quotes what stands as :'name'.
sql() {
    { printf '\\set args `cat %q`\n' "$JOB/args"; cat; } | psql --no-psqlrc --quiet --no-align \
        --tuples-only --set=ON_ERROR_STOP=1 --set=job_id="$JOB_ID" --set=job_run="$JOB_RUN" \
        --dbname="${DATABASE_URL:-}"
}

# Runs SQL, and completes the job, in one transaction: exactly once.
exactly_once() {
    {
        echo 'begin;'
        cat
        cat << 'END'
;
select count(*) = 1 as is_ours
from eram_complete_jobs(array[:job_id::bigint], array[:job_run]) \gset
\if :is_ours
    commit;
\else
    do $$ begin raise 'the run was over before it could be completed'; end $$;
\endif
END
    } | sql >&2 && echo 'done' >&3
}
