# The handlers of this worker, by the names that jobs are enqueued with. Only these names are ever
# run: a name from the database is compared, and never called.
run_handler() {
    case $1 in
        demo:echo) cat ;;
        demo:fail) fail ;;
        demo:flaky) flaky ;;
        demo:snooze) snooze "$(arg seconds)" ;;
        demo:discard) discard "$(arg reason)" ;;
        demo:cancel) cancel "$(arg reason)" ;;
        demo:sleep) sleep "$(arg seconds)" ;;
        demo:record) record ;;
        demo:unstorable) echo 'this is no JSON, so it is refused' ;;
        *)
            printf 'this worker has no handler "%s"\n' "$1" >&2
            return 127
            ;;
    esac
}

# One of the args, as text. jq does it as well, without a connection.
arg() { echo "select :'args'::jsonb ->> '$1'" | sql; }

fail() {
    arg message >&2
    return 1
}

flaky() {
    # Not ((...)): bash would run commands that stand in a text where it expects a number.
    if [ "$JOB_ATTEMPT" -lt "$(arg attempts)" ]; then
        echo "attempt $JOB_ATTEMPT" >&2
        return 1
    fi
    echo "{\"attempt\": $JOB_ATTEMPT}"
}

# Exactly once: the row and the job's completion are one transaction.
record() {
    exactly_once << 'END'
insert into demo_records (job_id, word) values (:job_id, :'args'::jsonb ->> 'word')
END
}
