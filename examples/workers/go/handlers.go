package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v4"
)

// The handlers of this worker, by the names that jobs are enqueued with.
var handlers = map[string]Handler{
	"demo:echo": func(ctx context.Context, job *Job) (any, error) {
		return job.Args, nil
	},

	"demo:fail": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		return nil, errors.New(args.Message)
	},

	"demo:flaky": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err == nil && job.Attempt < args.Attempts {
			err = fmt.Errorf("attempt %d", job.Attempt)
		}
		return map[string]int32{"attempt": job.Attempt}, err
	},

	"demo:snooze": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		return nil, Snooze{time.Duration(args.Seconds * float64(time.Second))}
	},

	"demo:discard": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		return nil, Discard{args.Reason}
	},

	"demo:cancel": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		return nil, Cancel{args.Reason}
	},

	"demo:sleep": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(time.Duration(args.Seconds * float64(time.Second))):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	},

	// Exactly once: the row and the job's completion are one transaction.
	"demo:record": func(ctx context.Context, job *Job) (any, error) {
		args, err := arguments(job)
		if err != nil {
			return nil, err
		}
		return job.Transaction(ctx, func(tx pgx.Tx) (any, error) {
			_, err := tx.Exec(ctx, "insert into demo_records (job_id, word) values ($1, $2)",
				job.ID, args.Word)
			return map[string]string{"recorded": args.Word}, err
		})
	},

	"demo:unstorable": func(ctx context.Context, job *Job) (any, error) {
		return "PostgreSQL holds no \x00, so this result is refused", nil
	},
}

// What the handlers above take.
type demoArguments struct {
	Message  string
	Reason   string
	Word     string
	Seconds  float64
	Attempts int32
}

func arguments(job *Job) (args demoArguments, err error) {
	err = json.Unmarshal(job.Args, &args)
	return args, err
}
