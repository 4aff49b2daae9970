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

// Outcomes that are to be told stand in the record, as in "sent:1764234000000000 ", each with
// when it became known. They are no part of what rev protects: whoever changes a message
// appends to them, and whoever has told some takes them away at the front.

// Owed is a message of which something is to be told.
type Owed struct {
	Stored
	Outcomes []Outcome
	until    int64 // when its lease ends
}

// Outcome is what is to be told.
type Outcome struct {
	Kind   message.OutcomeKind
	At     time.Time
	length int // in the record
}

// outcomesOf reads how outcomes stand in a record.
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
	owedStatement = `SELECT seq FROM {record} WHERE owed > 0 AND owed <= CAST(@now AS bigint) ORDER BY owed, seq LIMIT @limit`
	leaseOwed     = `UPDATE {record} SET owed = CAST(@until AS bigint) WHERE seq %s AND owed > 0 AND owed <= CAST(@now AS bigint) RETURNING seq, outcomes`
	toldStatement = `UPDATE {record} SET outcomes = substr(outcomes, CAST(@length AS integer) + 1),
	owed = CASE WHEN length(outcomes) > CAST(@length AS integer) THEN CAST(@again AS bigint) ELSE 0 END WHERE seq = @seq AND owed = @until`
	owedMessages = `SELECT ` + columns + ` FROM ` + fromMessage + ` WHERE m.`
)

// TakeOwed takes messages of which something is to be told at that time, the longest owed
// first. Nobody else gets them for as long as the lease lasts.
func (s *Store) TakeOwed(ctx context.Context, now time.Time, lease time.Duration, limit int) (taken []Owed, err error) {
	given := args{"now": micro(now), "until": micro(now.Add(lease)), "limit": limit}
	any := false
	err = s.read(ctx, func(ctx context.Context, on runner) error {
		given := args{"now": given["now"], "limit": 1}
		return s.query(ctx, on, owedStatement, given, func(rows *sql.Rows) error {
			any = true
			var seq int64
			return rows.Scan(&seq)
		})
	})
	if err != nil || !any {
		return nil, err // as most often, and nothing is written
	}
	err = s.write(ctx, "take owed", func(ctx context.Context, on runner) error {
		taken = nil
		outcomes := make(map[int64]string)
		var seqs array
		err := s.query(ctx, on, fmt.Sprintf(leaseOwed, s.in(owedStatement+" {skip}")), given, func(rows *sql.Rows) error {
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
		return s.query(ctx, on, owedMessages+s.among(&seqs, among)+" ORDER BY m.seq", among, func(rows *sql.Rows) error {
			m := Owed{until: given["until"].(int64)}
			err := scan(rows, &m.Stored)
			m.Outcomes = outcomesOf(outcomes[m.Seq])
			taken = append(taken, m)
			return err
		})
	})
	return taken, err
}

// Told is what has become of a message of which something was to be told.
type Told struct {
	Owed
	N     int       // of the outcomes have been told
	Again time.Time // when to go on, if there is more
}

// Tell writes what was told. It does nothing for a message whose lease has ended.
func (s *Store) Tell(ctx context.Context, told []Told) error {
	if len(told) == 0 {
		return nil
	}
	return s.write(ctx, "told", func(ctx context.Context, on runner) error {
		for _, t := range told {
			length := 0
			for _, outcome := range t.Outcomes[:t.N] {
				length += outcome.length
			}
			if _, err := s.exec(ctx, on, toldStatement, args{"seq": t.Seq, "until": t.until, "length": length, "again": micro(t.Again)}); err != nil {
				return err
			}
		}
		return nil
	})
}
