package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// The record of a message has the outcomes that are still to be reported, as in
// "sent:1764234000000000 ", each with when the outbox learned of it. rev does not protect them:
// a change of the message appends outcomes, and a report removes them from the front.

// Unreported is a message that has outcomes to report.
type Unreported struct {
	Stored
	Outcomes []Outcome
	until    int64 // when its lease ends
}

// Outcome is an outcome to report.
type Outcome struct {
	Kind   message.OutcomeKind
	At     time.Time
	length int // of its text in the record
}

// outcomesOf parses the outcomes of a record.
func outcomesOf(text string) (all []Outcome) {
	for entry := range strings.SplitAfterSeq(text, " ") {
		kind, at, _ := strings.Cut(strings.TrimSuffix(entry, " "), ":")
		micro, err := strconv.ParseInt(at, 10, 64)
		if entry == "" || err != nil {
			continue
		}
		all = append(all, Outcome{message.OutcomeKind(kind), fromMicro(micro), len(entry)})
	}
	return all
}

const (
	unreportedStatement = `SELECT seq FROM {record} WHERE report_at > 0 AND report_at <= CAST(@now AS bigint) ORDER BY report_at, seq LIMIT @limit`
	leaseUnreported     = `UPDATE {record} SET report_at = CAST(@until AS bigint) WHERE seq %s AND report_at > 0 AND report_at <= CAST(@now AS bigint) RETURNING seq, outcomes`
	reportedStatement   = `UPDATE {record} SET outcomes = substr(outcomes, CAST(@length AS integer) + 1),
	report_at = CASE WHEN length(outcomes) > CAST(@length AS integer) THEN CAST(@again AS bigint) ELSE 0 END WHERE seq = @seq AND report_at = @until`
	unreportedMessages = `SELECT ` + columns + ` FROM ` + fromMessage + ` WHERE m.`
)

// TakeUnreported takes messages that have outcomes to report at that time, those that have
// waited longest first. No other Run gets them until the lease ends.
func (s *Store) TakeUnreported(ctx context.Context, now time.Time, lease time.Duration, limit int) (taken []Unreported, err error) {
	given := args{"now": micro(now), "until": micro(now.Add(lease)), "limit": limit}
	any := false
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		given := args{"now": given["now"], "limit": 1}
		return s.query(ctx, on, unreportedStatement, given, func(rows *sql.Rows) error {
			any = true
			var seq int64
			return rows.Scan(&seq)
		})
	})
	if err != nil || !any {
		return nil, err // the usual case, in which nothing is written
	}
	err = s.write(ctx, "take outcomes", func(ctx context.Context, on runner) error {
		taken = nil
		outcomes := make(map[int64]string)
		var seqs array
		err := s.query(ctx, on, fmt.Sprintf(leaseUnreported, s.in(unreportedStatement+" {skip}")), given, func(rows *sql.Rows) error {
			var seq int64
			var text string
			err := rows.Scan(&seq, &text)
			outcomes[seq] = text
			seqs.plain(itoa(seq))
			return err
		})
		if err != nil || len(outcomes) == 0 {
			return err
		}
		among := args{}
		return s.query(ctx, on, unreportedMessages+s.among(&seqs, among)+" ORDER BY m.seq", among, func(rows *sql.Rows) error {
			m := Unreported{until: given["until"].(int64)}
			err := scan(rows, &m.Stored)
			m.Outcomes = outcomesOf(outcomes[m.Seq])
			taken = append(taken, m)
			return err
		})
	})
	return taken, err
}

// Reported is what was reported of a message.
type Reported struct {
	Unreported
	N     int       // how many of the outcomes were reported
	Again time.Time // when to report the rest
}

// MarkReported writes what was reported. It does nothing for a message whose lease has ended.
func (s *Store) MarkReported(ctx context.Context, reported []Reported) error {
	if len(reported) == 0 {
		return nil
	}
	return s.write(ctx, "reported", func(ctx context.Context, on runner) error {
		for _, t := range reported {
			length := 0
			for _, outcome := range t.Outcomes[:t.N] {
				length += outcome.length
			}
			if _, err := s.exec(ctx, on, reportedStatement, args{"seq": t.Seq, "until": t.until, "length": length, "again": micro(t.Again)}); err != nil {
				return err
			}
		}
		return nil
	})
}
