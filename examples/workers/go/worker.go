// A complete worker of eram in Go. Its handlers are in handlers.go.
//
//	DATABASE_URL=postgresql://... ./worker default=10 mail=2
//
// Each queue has a session of its own, on which it fetches, reports and waits. One more proves
// that the worker lives: it has to stay open. docs/languages/index.md says what the calls are.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v4"
)

// Within major.minor the functions stay as they are.
var knownVersions = regexp.MustCompile(`^0\.1\.`)

const (
	beatEvery = time.Second           // how soon a cancelled job learns of it
	brisk     = 20 * time.Millisecond // until the server says that we will be notified
	lookBack  = 15 * time.Second      // the server has read by then what a lost connection had sent
	callLimit = time.Minute           // a call without an answer for so long has gone astray
)

// The backstop of an idle queue.
var pollEvery = secondsFrom("ERAM_POLL_SECONDS", 1)

func secondsFrom(variable string, otherwise float64) time.Duration {
	seconds, err := strconv.ParseFloat(os.Getenv(variable), 64)
	if err != nil {
		seconds = otherwise
	}
	return time.Duration(seconds * float64(time.Second))
}

type runKey struct {
	id  int64
	run int32
}

type worker struct {
	dsn    string
	queues []*queue
	stop   context.Context // done when no more jobs are to be fetched
	leave  context.Context // done when all queues have ended

	mu   sync.Mutex
	id   int64 // 0 while the server knows no living worker of ours
	runs map[runKey]context.CancelFunc
}

func (w *worker) workerID() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.id
}

func (w *worker) setWorkerID(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id = id
}

// connect says as well whether the session is ours alone: a pooler tells its clients the process
// id of no server process.
func (w *worker) connect() (conn *pgx.Conn, isDirect bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if conn, err = pgx.Connect(ctx, w.dsn); err != nil {
		return nil, false, err
	}
	var pid int64
	if err = conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		closeConn(conn)
		return nil, false, err
	}
	return conn, pid == int64(conn.PgConn().PID()), nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// live proves that the worker lives, learns of cancelled jobs, and ticks.
func (w *worker) live() {
	var conn *pgx.Conn
	for {
		err := error(nil)
		if conn == nil {
			conn, err = w.greet()
		}
		if err == nil {
			err = w.beat(conn)
		}
		if err != nil {
			log.Print("heartbeat: ", err)
			if conn != nil {
				closeConn(conn)
				conn = nil
			}
		}
		select {
		case <-time.After(beatEvery):
		case <-w.leave.Done():
			if conn != nil && w.workerID() != 0 {
				ctx, cancel := context.WithTimeout(context.Background(), callLimit)
				defer cancel()
				if _, err = conn.Exec(ctx, "select eram_stop_worker($1)", w.workerID()); err != nil {
					log.Print("goodbye: ", err)
				}
				closeConn(conn)
			}
			return
		}
	}
}

func (w *worker) greet() (*pgx.Conn, error) {
	conn, _, err := w.connect()
	if err != nil {
		return nil, err
	}
	var version string
	if err = conn.QueryRow(context.Background(), "select eram_version()").Scan(&version); err != nil {
		closeConn(conn)
		return nil, err
	}
	if !knownVersions.MatchString(version) {
		log.Printf("the database has eram %s, which this worker does not know", version)
		os.Exit(2)
	}
	return conn, nil
}

func (w *worker) beat(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	id, isAlive := w.workerID(), false
	if id != 0 {
		var ids []int64
		var runs []int32
		// After a lost connection this takes the worker's lock on the new session.
		err := conn.QueryRow(ctx, "select is_alive, cancelled_ids, cancelled_runs"+
			" from eram_heartbeat($1)", id).Scan(&isAlive, &ids, &runs)
		if err != nil {
			return err
		}
		w.mu.Lock()
		for i := range ids {
			if end := w.runs[runKey{ids[i], runs[i]}]; end != nil {
				end()
			}
		}
		w.mu.Unlock()
	}
	if !isAlive {
		host, _ := os.Hostname()
		name := fmt.Sprintf("%s:%d", host, os.Getpid())
		var queues []string
		for _, q := range w.queues {
			queues = append(queues, q.name)
		}
		err := conn.QueryRow(ctx, "select eram_start_worker($1, $2, $3)",
			name, queues, int32(conn.PgConn().PID())).Scan(&id)
		if err != nil {
			return err
		}
		w.setWorkerID(id)
		log.Print("registered as worker ", id)
		for _, q := range w.queues {
			q.ring()
		}
	}
	// 0: commands of schedules are left to a client that can run them, see eram_tick().
	_, err := conn.Exec(ctx, "select from eram_tick(0)")
	if err != nil && isRefusal(err) {
		log.Print("tick: ", err)
		err = nil
	}
	return err
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	stop, stopping := context.WithCancel(context.Background())
	leave, leaving := context.WithCancel(context.Background())
	w := &worker{dsn: os.Getenv("DATABASE_URL"), stop: stop, leave: leave,
		runs: map[runKey]context.CancelFunc{}}

	arguments := os.Args[1:]
	if len(arguments) == 0 {
		arguments = []string{"default=10"}
	}
	for _, argument := range arguments {
		name, count, _ := strings.Cut(argument, "=")
		limit, err := strconv.Atoi(count)
		if err != nil {
			limit = 10
		}
		w.queues = append(w.queues, &queue{worker: w, name: name, limit: limit,
			wake: make(chan struct{}, 1), inHand: map[runKey]*Job{}})
	}
	var ended sync.WaitGroup
	for _, q := range w.queues {
		ended.Add(1)
		go func(q *queue) { defer ended.Done(); q.serve() }(q)
	}
	gone := make(chan struct{})
	go func() { w.live(); close(gone) }()

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	grace := secondsFrom("ERAM_GRACE_SECONDS", 30)
	<-signals
	log.Printf("SIGTERM or SIGINT: no more jobs; those that run have %s to end", grace)
	stopping()
	go func() {
		select {
		case <-signals:
		case <-time.After(grace):
		}
		// Without a goodbye: the lock goes with the process, and the jobs are rescued.
		os.Exit(1)
	}()
	ended.Wait()
	leaving()
	<-gone
}
