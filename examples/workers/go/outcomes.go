// What becomes of a run: a handler's end is made an outcome, and outcomes are reported.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v4"
)

const (
	maxErrorBytes = 2000
	mostAtOnce    = 100
)

// Job is one run of a job. A handler must heed its context: it is done when the run is over,
// because the job was cancelled or its time is up.
type Job struct {
	ID          int64
	Run         int32
	Handler     string
	Args        json.RawMessage
	Queue       string
	Attempt     int32
	MaxAttempts int32

	timeout    *float64
	worker     *worker
	isReported bool
}

// Handler runs a job. What it returns is the job's result, stored as JSON; nil is none.
type Handler func(ctx context.Context, job *Job) (any, error)

// Snooze, Discard and Cancel are returned as errors, to end otherwise than well.
type (
	Snooze  struct{ Delay time.Duration }
	Discard struct{ Reason string }
	Cancel  struct{ Reason string }
)

func (s Snooze) Error() string  { return "snoozed for " + s.Delay.String() }
func (d Discard) Error() string { return d.Reason }
func (c Cancel) Error() string  { return c.Reason }

type outcome struct {
	job    *Job
	result *string // of a run that has completed
	err    error
	detail string
}

// storable makes text that the database can hold: valid UTF-8, without characters of code 0.
func storable(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) > maxErrorBytes {
		text = text[:maxErrorBytes]
	}
	return strings.ToValidUTF8(text, "?")
}

func failure(job *Job, err error, stack string) outcome {
	detail, _ := json.Marshal(map[string]string{
		"type": fmt.Sprintf("%T", err), "stack": storable(stack)})
	return outcome{job: job, err: err, detail: string(detail)}
}

// run calls a job's handler; whatever comes of it is an outcome, a panic too.
func run(ctx context.Context, job *Job) (ended outcome) {
	defer func() {
		if problem := recover(); problem != nil {
			ended = failure(job, fmt.Errorf("panic: %v", problem), string(debug.Stack()))
		}
	}()
	handler, isKnown := handlers[job.Handler]
	if !isKnown {
		return failure(job, fmt.Errorf("this worker has no handler %q", job.Handler), "")
	}
	result, err := handler(ctx, job)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("timed out after %g s", *job.timeout)
	} else if ctx.Err() != nil && err == nil {
		err = errors.New("the job was cancelled")
	}
	switch {
	case job.isReported:
		return outcome{job: job}
	case err != nil:
		return failure(job, err, "")
	}
	text, err := toJSON(result)
	if err != nil {
		return failure(job, err, "")
	}
	return outcome{job: job, result: text}
}

func toJSON(value any) (*string, error) {
	if value == nil {
		return nil, nil
	}
	text, err := json.Marshal(value)
	result := string(text)
	return &result, err
}

// Transaction makes the handler's work and the completion of its job one transaction: exactly
// once. A pool of your own would spare the connecting.
func (job *Job) Transaction(ctx context.Context, work func(tx pgx.Tx) (any, error)) (any, error) {
	conn, err := pgx.Connect(ctx, job.worker.dsn)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn) // rolls back what was not committed
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	value, err := work(tx)
	if err != nil {
		return nil, err
	}
	result, err := toJSON(value)
	if err != nil {
		return nil, err
	}
	var count int
	err = tx.QueryRow(ctx, complete, []int64{job.ID}, []int32{job.Run}, []*string{result}).Scan(&count)
	if err == nil && count == 0 {
		err = errors.New("the run was over before it could be completed")
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	job.isReported = err == nil
	return value, err
}

const complete = "select count(*) from eram_complete_jobs($1, $2, $3::text[]::jsonb[])"

// report reports outcomes and takes them off the list. One that was reported on a connection whose
// answer was lost is reported again: the server accepts it once.
func (q *queue) report(conn *pgx.Conn) error {
	for {
		q.mu.Lock()
		count := 0
		for count < len(q.ended) && count < mostAtOnce && q.ended[count].err == nil {
			count++
		}
		if count == 0 && len(q.ended) > 0 {
			count = 1
		}
		batch := q.ended[:count:count]
		q.mu.Unlock()
		if count == 0 {
			return nil
		}
		if err := q.say(conn, batch); err != nil {
			return err
		}
		q.mu.Lock()
		q.ended = q.ended[count:]
		q.mu.Unlock()
	}
}

// say reports one outcome, or several of runs that have completed.
func (q *queue) say(conn *pgx.Conn, batch []outcome) error {
	err := q.trySaying(conn, batch)
	if err == nil || !isRefusal(err) {
		return err
	}
	// Something in it cannot be stored, such as a result with \u0000: the job at fault fails.
	if len(batch) == 1 {
		return q.trySaying(conn, []outcome{failure(batch[0].job, err, "")})
	}
	for _, each := range batch {
		if err := q.say(conn, []outcome{each}); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) trySaying(conn *pgx.Conn, batch []outcome) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	first, accepted := batch[0], 0
	one := func(call string, arguments ...any) error { // null and false: no longer ours
		return conn.QueryRow(ctx, "select count(*) from "+call+" as answer"+
			" where answer::text <> 'false'", arguments...).Scan(&accepted)
	}
	id, number := first.job.ID, first.job.Run
	var err error
	var snooze Snooze
	var discard Discard
	var cancelled Cancel
	switch {
	case first.err == nil:
		ids, runs, results := []int64{}, []int32{}, []*string{}
		for _, each := range batch {
			ids, runs = append(ids, each.job.ID), append(runs, each.job.Run)
			results = append(results, each.result)
		}
		err = conn.QueryRow(ctx, complete, ids, runs, results).Scan(&accepted)
	case errors.As(first.err, &snooze):
		err = one("eram_snooze_job($1, $2, make_interval(secs => $3))", id, number,
			snooze.Delay.Seconds())
	case errors.As(first.err, &discard):
		err = one("eram_discard_job($1, $2, $3)", id, number, storable(discard.Reason))
	case errors.As(first.err, &cancelled):
		err = one("eram_cancel_job($1, $3, $2)", id, number, storable(cancelled.Reason))
	default:
		err = one("eram_fail_job($1, $2, $3, $4::text::jsonb)", id, number,
			storable(first.err.Error()), first.detail)
	}
	if err == nil && accepted < len(batch) {
		log.Printf("%d runs were over already, from job %d on", len(batch)-accepted, id)
	}
	return err
}

// release gives back what was claimed and not started; the attempt does not count.
func (q *queue) release(conn *pgx.Conn, jobs []*Job) error {
	ids, runs := []int64{}, []int32{}
	for _, job := range jobs {
		ids, runs = append(ids, job.ID), append(runs, job.Run)
	}
	return q.exec(conn, "select eram_release_jobs($1, $2)", ids, runs)
}
