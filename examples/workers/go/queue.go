// One queue of the worker: a session that fetches, reports and waits, and a goroutine a job.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

type queue struct {
	*worker
	name  string
	limit int
	wake  chan struct{} // something has changed

	mu     sync.Mutex
	inHand map[runKey]*Job
	ended  []outcome // to be reported; they outlive a lost connection
}

// isRefusal says that the server refuses what was said. Everything else is waited out on a new
// connection: one that was lost, and a server that shuts down, is full, or is a standby.
func isRefusal(err error) bool {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || refusal.Severity != "ERROR" {
		return false
	}
	switch refusal.Code[:2] {
	case "08", "25", "40", "53", "55", "57":
		return false
	}
	return true
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default: // it rings already
	}
}

func (q *queue) isOver() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stop.Err() != nil && len(q.inHand) == 0 && len(q.ended) == 0
}

func (q *queue) serve() {
	go func() { <-q.stop.Done(); q.ring() }()
	for !q.isOver() {
		conn, isDirect, err := q.connect()
		if err == nil {
			err = q.work(conn, isDirect)
			closeConn(conn)
		}
		if err != nil {
			log.Printf("queue %s: %v", q.name, err)
			time.Sleep(beatEvery)
		}
	}
}

func (q *queue) work(conn *pgx.Conn, isDirect bool) error {
	lookBacks := []time.Time{time.Now(), time.Now().Add(lookBack)}
	var mark *string // since when this session is declared waiting
	isIdle := true
	for !q.isOver() {
		if err := q.report(conn); err != nil {
			return err
		}
		id := q.workerID()
		if id != 0 && len(lookBacks) > 0 && time.Now().After(lookBacks[0]) {
			if err := q.releaseOthers(conn, id); err != nil {
				return err
			}
			lookBacks = lookBacks[1:]
		}
		q.mu.Lock()
		demand := q.limit - len(q.inHand)
		q.mu.Unlock()
		pause := pollEvery
		if demand > 0 && id != 0 && q.stop.Err() == nil {
			if isIdle && isDirect {
				// First ask and then fetch: what this fetch does not see is enqueued by
				// somebody who sees us waiting, once the server says that we have settled.
				var err error
				if mark, pause, err = q.startWaiting(conn, mark); err != nil {
					return err
				}
			}
			jobs, err := q.fetch(conn, demand, id)
			if err != nil {
				return err
			}
			isIdle = len(jobs) < demand
			if !isIdle && mark != nil {
				// A busy worker need not be notified, and its producers need not notify.
				if err := q.exec(conn, "select eram_stop_waiting($1)", q.name); err != nil {
					return err
				}
				mark = nil
			}
			if len(jobs) > 0 && isIdle {
				pause = 0
			}
			if q.stop.Err() != nil { // the signal came meanwhile
				if err := q.release(conn, jobs); err != nil {
					return err
				}
				continue
			}
			for _, job := range jobs {
				q.start(job)
			}
		}
		if err := q.sleep(conn, pause); err != nil {
			return err
		}
	}
	return nil
}

// sleep ends when a notification comes, when somebody rings, and after a while.
func (q *queue) sleep(conn *pgx.Conn, pause time.Duration) error {
	if pause <= 0 || q.isOver() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), pause)
	heard := make(chan struct{})
	go func() {
		select {
		case <-q.wake:
			cancel()
		case <-ctx.Done():
		}
		close(heard)
	}()
	_, err := conn.WaitForNotification(ctx)
	cancel()
	<-heard // a ring that it takes from now on would wake nobody
	if conn.IsClosed() {
		return err
	}
	return nil
}

func (q *queue) exec(conn *pgx.Conn, sql string, arguments ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	_, err := conn.Exec(ctx, sql, arguments...)
	return err
}

func (q *queue) startWaiting(conn *pgx.Conn, mark *string) (*string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	var isSettled bool
	var dueIn *float64
	err := conn.QueryRow(ctx, "select mark::text, is_settled,"+
		" extract(epoch from next_due_at - clock_timestamp())::float8"+
		" from eram_start_waiting($1, $2::text::xid8)", q.name, mark).Scan(&mark, &isSettled, &dueIn)
	pause := pollEvery
	if mark != nil && !isSettled {
		pause = brisk
	}
	if dueIn != nil && *dueIn < pause.Seconds() {
		pause = time.Duration(*dueIn * float64(time.Second))
	}
	return mark, pause, err
}

func (q *queue) fetch(conn *pgx.Conn, demand int, id int64) ([]*Job, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	rows, err := conn.Query(ctx, "select id, run, handler, args::text, queue, attempt,"+
		" max_attempts, extract(epoch from timeout)::float8 from eram_fetch($1, $2, $3)",
		q.name, demand, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var jobs []*Job
	for rows.Next() {
		job, args := &Job{worker: q.worker}, ""
		if err := rows.Scan(&job.ID, &job.Run, &job.Handler, &args, &job.Queue, &job.Attempt,
			&job.MaxAttempts, &job.timeout); err != nil {
			return nil, err
		}
		job.Args = json.RawMessage(args)
		jobs = append(jobs, job)
	}
	var refusal *pgconn.PgError
	if errors.As(rows.Err(), &refusal) && (refusal.Code == "42704" || refusal.Code == "55000") {
		q.setWorkerID(0) // taken for dead: the next beat registers anew
		return nil, nil
	}
	return jobs, rows.Err()
}

// releaseOthers gives back claims whose answers were lost with their connection: they are nobody's.
func (q *queue) releaseOthers(conn *pgx.Conn, id int64) error {
	q.mu.Lock()
	ids, runs := []int64{}, []int32{}
	for key := range q.inHand {
		ids, runs = append(ids, key.id), append(runs, key.run)
	}
	for _, each := range q.ended {
		ids, runs = append(ids, each.job.ID), append(runs, each.job.Run)
	}
	q.mu.Unlock()
	return q.exec(conn, "select eram_release_other_jobs($1, $2, $3, $4)", id, q.name, ids, runs)
}

func (q *queue) start(job *Job) {
	limit := 100 * 365 * 24 * time.Hour // none
	if job.timeout != nil {
		limit = time.Duration(*job.timeout * float64(time.Second))
	}
	ctx, end := context.WithTimeout(context.Background(), limit)
	key := runKey{job.ID, job.Run}
	q.mu.Lock()
	q.inHand[key] = job
	q.mu.Unlock()
	q.worker.mu.Lock()
	q.worker.runs[key] = end
	q.worker.mu.Unlock()
	go func() {
		ended := run(ctx, job)
		end()
		q.worker.mu.Lock()
		delete(q.worker.runs, key)
		q.worker.mu.Unlock()
		q.mu.Lock()
		delete(q.inHand, key)
		if !job.isReported { // by the handler's own transaction
			q.ended = append(q.ended, ended)
		}
		q.mu.Unlock()
		q.ring()
	}()
}
