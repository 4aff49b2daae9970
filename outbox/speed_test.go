package outbox_test

import (
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/pgtest"
	"github.com/graphretry/graphretry/outbox/page"
)

var speed = flag.Bool("speed", false, "measure with as many messages as the targets are about, and judge them")

// measured returns how many messages a figure is measured with.
func measured(full int) int {
	if *speed {
		return full
	}
	return max(full/200, 20)
}

// meter judges each figure against its target.
type meter struct {
	t     *testing.T
	place func() place
}

func (m meter) judge(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if *speed {
		assert.True(t, ok, text)
	}
	if !ok {
		text += "   <-- not reached"
	}
	t.Log(text)
}

// TestSpeed measures the outbox beside a baseline, on the same disk in the same run.
func TestSpeed(t *testing.T) {
	m := meter{t: t, place: func() place { return newPlace(t) }}
	if *speed { // on a disk
		m.place = func() place { return place{"sqlite", filepath.Join(t.TempDir(), "outbox.db")} }
		if os.Getenv(kindVariable) == "postgres" {
			server := pgtest.Start(t, "max_connections=300")
			m.place = func() place { return place{"postgres", server.Schema(t)} }
		}
	}
	t.Run("enqueue", m.enqueue)
	t.Run("run", m.run)
	t.Run("numbers", m.numbers)
	t.Run("many", m.many)
	t.Run("snapshot", m.snapshot)
	t.Run("limit", m.limit)
	t.Run("transaction", m.transaction)
	t.Run("decisions", m.decisions)
	t.Run("pages", m.pages)
}

const (
	speedWorkers = 64
	speedLatency = 50 * time.Millisecond
)

func (m meter) enqueue(t *testing.T) {
	where := m.place()
	o, base := openAt(t, where, nil), newBaseline(t, where)
	perSecond := func(callers, each int, do func(caller, i int)) float64 {
		began := time.Now()
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				for i := range each {
					do(caller, i)
				}
			})
		}
		all.Wait()
		return float64(callers*each) / time.Since(began).Seconds()
	}
	batches := measured(50_000) / 100
	var theirs, ours []float64
	for round := range 3 { // in turns, as the machine is not always the same
		theirs = append(theirs, 100*perSecond(1, max(1, batches/3), func(_, i int) { base.enqueue(fmt.Sprint("b", round, "-", i), 100) }))
		ours = append(ours, 100*perSecond(1, max(1, batches/3), func(_, i int) { enqueueAll(t, o, fmt.Sprint("b", round, "-", i), 100, 100) }))
	}
	m.judge(t, mid(ours) >= 0.6*mid(theirs), "EnqueueAll, batches of 100, one caller: %.0f messages a second, %.2f of the baseline's %.0f; want 0.6", mid(ours), mid(ours)/mid(theirs), mid(theirs))

	const callers = 64
	each := max(1, measured(10_000)/callers/3)
	theirs, ours = nil, nil
	var syncs []float64
	for round := range 3 {
		syncs = append(syncs, syncsPerSecond(t, where))
		theirs = append(theirs, perSecond(callers, each, func(c, i int) { base.enqueue(fmt.Sprint(round, "-", c, "-", i), 1) }))
		ours = append(ours, perSecond(callers, each, func(c, i int) {
			assert.NoError(t, o.Enqueue(t.Context(), fmt.Sprint(round, "-", c, "-", i), phoneNumberID, payload(strings.Repeat("x", 100))))
		}))
	}
	want := mid(ours) >= 0.8*mid(theirs)
	if where.kind == "sqlite" {
		want = want && mid(ours) >= mid(syncs)
	}
	m.judge(t, want, "Enqueue, 64 callers: %.0f messages a second, %.2f of the baseline's %.0f, %.2f of %.0f fsyncs; want 0.8 of the baseline, and on SQLite 1.0 of the fsyncs",
		mid(ours), mid(ours)/mid(theirs), mid(theirs), mid(ours)/mid(syncs), mid(syncs))
}

func (m meter) run(t *testing.T) {
	where := m.place()
	base := newBaseline(t, where)
	o := openAt(t, where, slow(speedLatency), outbox.WithWorkers(speedWorkers), outbox.WithRate(1e6))
	n := measured(6_000)
	var theirs, ours []float64
	for round := range 2 {
		base.enqueue(fmt.Sprint(round), min(n, 300))
		for i := 300; i < n; i += 300 {
			base.enqueue(fmt.Sprint(round, "-", i), 300)
		}
		theirs = append(theirs, base.run(n, speedWorkers, speedLatency))
		enqueueAll(t, o, fmt.Sprint(round), n, 500)
		ours = append(ours, drain(t, o, (round+1)*n, n))
	}
	ideal := float64(speedWorkers) / speedLatency.Seconds()
	m.judge(t, mid(ours) >= min(0.85*ideal, 0.9*mid(theirs)), "Run, %d workers, API of %v: %.0f messages a second, %.2f of what the workers can do, %.2f of the baseline's %.0f; want 0.85, or 0.9 of the baseline",
		speedWorkers, speedLatency, mid(ours), mid(ours)/ideal, mid(ours)/mid(theirs), mid(theirs))

	// Another process joins, and does its part within 5 s.
	other := openAt(t, where, slow(speedLatency), outbox.WithWorkers(8), outbox.WithRate(1e6))
	enqueueAll(t, o, "two", n, 500)
	run(t, other)
	two := drain(t, o, 3*n, n)
	m.judge(t, two >= 0.8*min(ideal*72/64, mid(theirs)*72/64), "two Runs, 64 and 8 workers: %.0f a second, %.2f of what they can do, %.2f of the baseline for as many; want 0.8", two, two/(ideal*72/64), two/(mid(theirs)*72/64))
}

func (m meter) numbers(t *testing.T) {
	where := m.place()
	o := openAt(t, where, slow(speedLatency), outbox.WithWorkers(speedWorkers))
	n := measured(1000)
	var messages []outbox.Message
	for i := range n {
		messages = append(messages, outbox.Message{ID: fmt.Sprint(i), PhoneNumberID: fmt.Sprint(100000 + i), Payload: payload("x")})
	}
	require.NoError(t, o.EnqueueAll(t.Context(), messages))
	began := time.Now()
	stop := run(t, o)
	sent(t, o, n)
	took := time.Since(began)
	m.judge(t, took <= 5*time.Second, "%d numbers with a message each, %d workers: all sent in %v; want 5s", n, speedWorkers, took)
	if *speed {
		time.Sleep(15 * time.Second) // in which each session has told PostgreSQL what it has done
		busy, before := cpu(), committed(t, where)
		time.Sleep(10 * time.Second)
		share, statements := (cpu()-busy).Seconds()/10, float64(committed(t, where)-before)/10
		m.judge(t, statements <= 10, "idle then: %.1f transactions a second, of one statement most of them; want 10 (PostgreSQL counts them)", statements)
		m.judge(t, share <= 0.01, "idle then: %.2f %% of a core in this process; want 1 %%", 100*share)
	}
	stop()
}

// committed returns how many transactions PostgreSQL has counted, 0 on SQLite.
func committed(t *testing.T, where place) (n int) {
	t.Helper()
	if where.kind != "postgres" {
		return 0
	}
	db, _, err := where.connect()
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.QueryRow("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database").Scan(&n))
	return n
}

// many measures a queue of 1,000,000 messages (SQLite: 200,000) beside as many that have ended.
func (m meter) many(t *testing.T) {
	where := m.place()
	o := openAt(t, where, slow(0), outbox.WithWorkers(speedWorkers), outbox.WithRate(1e6))
	n := measured(1_000_000)
	if where.kind == "sqlite" {
		n = measured(200_000)
	}
	fill(t, where, n, "''")
	timed := func(do func() error) func() time.Duration {
		return func() time.Duration {
			began := time.Now()
			require.NoError(t, do())
			return time.Since(began)
		}
	}
	claim := fastest(func() time.Duration {
		took, err := outbox.TimeClaim(o, phoneNumberID, 8)
		require.NoError(t, err)
		return took
	})
	m.judge(t, claim <= 5*time.Millisecond, "%d queued and as many over: a claim of 8 takes %v; want 5ms", n, claim)
	look := fastest(func() time.Duration {
		took, err := outbox.TimeLook(o)
		require.NoError(t, err)
		return took
	})
	t.Logf("the look for due numbers takes %v", look)
	stats := fastest(timed(func() error { _, err := o.Stats(t.Context()); return err }))
	m.judge(t, stats <= 200*time.Millisecond, "Stats takes %v; want 200ms", stats)
	for name, filter := range map[string]outbox.Filter{
		"by number": {PhoneNumberID: phoneNumberID}, "queued": {States: []outbox.State{outbox.StateQueued}},
		"unknown": {States: []outbox.State{outbox.StateUnknown}}, "queued and unknown": {States: []outbox.State{outbox.StateQueued, outbox.StateUnknown}},
	} {
		filter.Limit = 100
		list := fastest(timed(func() error { _, err := o.List(t.Context(), filter); return err }))
		m.judge(t, list <= 50*time.Millisecond, "the first page of List, %s, takes %v; want 50ms", name, list)
	}
	before := inUse()
	stop := run(t, o)
	began := time.Now()
	require.NoError(t, o.Enqueue(t.Context(), "urgent", phoneNumberID, payload("4711"), outbox.Urgent()))
	for {
		status, err := o.Status(t.Context(), "urgent")
		require.NoError(t, err)
		if status.State == outbox.StateSent {
			break
		}
		time.Sleep(time.Millisecond)
	}
	overtook := time.Since(began)
	m.judge(t, overtook <= time.Second, "an urgent message overtakes them in %v; want 1s", overtook)
	if *speed {
		time.Sleep(3 * time.Second)
	}
	grown := max(inUse(), before) - before
	stop()
	m.judge(t, grown <= 50<<20, "a Run holds %d MiB; want 50", grown>>20)
}

// fastest returns the shortest of five times.
func fastest(do func() time.Duration) time.Duration {
	best := time.Hour
	for range 5 {
		best = min(best, do())
	}
	return best
}

// pages measures each page for operators with 1,000,000 messages, half of which have ended and
// half of which have a label.
func (m meter) pages(t *testing.T) {
	where := m.place()
	if where.kind != "postgres" {
		t.Skip("it is about PostgreSQL")
	}
	o := openAt(t, where, nil)
	n := measured(500_000)
	fill(t, where, n, "CASE WHEN i % 4 < 2 THEN 'june' ELSE '' END")
	handler := page.Handler(o, page.WithPayload(), page.WithLogger(slog.New(slog.DiscardHandler)))
	const few = "200110" // a number that has one message in 1,000
	for _, path := range []string{
		"/", "/messages", "/messages?after=m" + fmt.Sprint(2*n-100), "/message?id=m77",
		"/messages?state=queued", "/messages?state=sending", "/messages?state=sent", "/messages?state=failed", "/messages?state=unknown", "/messages?state=failed&state=queued",
		"/messages?number=" + phoneNumberID, "/messages?number=" + few, "/messages?number=333", "/messages?state=queued&number=" + few, "/messages?state=failed&number=" + few,
		"/messages?state=sent&number=" + few, "/messages?state=sending&number=" + phoneNumberID,
		"/messages?label=june", "/messages?label=none", "/messages?label=june&state=queued", "/messages?label=june&state=failed", "/messages?label=june&number=" + few,
		"/messages?label=june&state=sending", "/messages?label=june&state=queued&number=" + few,
		"/messages?code=131026", "/messages?code=1", "/messages?code=131026&number=" + few, "/messages?code=131026&state=queued",
		"/messages?older=0s", "/messages?older=1h", "/messages?older=1h&state=queued", "/messages?older=1h&label=june", "/messages?older=1h&state=unknown",
		"/confirm?verb=pause", "/confirm?verb=delete", "/confirm?verb=drop&state=queued", "/confirm?verb=drop&label=june", "/confirm?verb=drop&label=june&number=" + phoneNumberID,
		"/confirm?verb=drop&label=june&number=" + few, "/confirm?verb=resend&code=131026", "/confirm?verb=drop&code=131026", "/confirm?verb=drop&older=0s", "/confirm?verb=drop&older=1h",
		"/confirm?verb=delete&older=0s&label=june", "/confirm?verb=delete&id=m77",
	} {
		took := fastest(func() time.Duration {
			recorder := httptest.NewRecorder()
			began := time.Now()
			handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			took := time.Since(began)
			require.Equal(t, http.StatusOK, recorder.Code, "%s\n%s", path, recorder.Body)
			return took
		})
		m.judge(t, took <= 200*time.Millisecond, "%d messages: the page %s comes in %v; want 200ms", 2*n, path, took)
	}
}

// fill creates a queue, and as many messages that have ended. label is SQL, of a row number i.
func fill(t *testing.T, where place, n int, label string) {
	t.Helper()
	db, _, err := where.connect()
	require.NoError(t, err)
	defer db.Close()
	series := fmt.Sprintf("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)", 2*n)
	for _, statement := range []string{
		series + ` INSERT INTO graphretry_message (id, phone_number_id, payload, recipient, label, adopted, enqueued_at)
			SELECT 'm' || i, CASE WHEN i % 10 = 0 THEN CAST(200000 + i % 1000 AS text) ELSE '` + phoneNumberID + `' END, '` + string(payload("x")) + `', CAST(i AS text), ` + label + `, TRUE, ` + fmt.Sprint(time.Now().UnixMicro()) + ` FROM s`,
		`INSERT INTO graphretry_queue (seq, number, recipient, label, urgent, place, due, ready, expires, rev)
			SELECT seq, phone_number_id, recipient, label, FALSE, enqueued_at, enqueued_at, TRUE, 0, 0 FROM graphretry_message WHERE seq % 2 = 0`,
		`INSERT INTO graphretry_record (seq, number, label, state, changed_at, code, subcode, rev, memory)
			SELECT seq, phone_number_id, label, CASE WHEN seq % 1001 = 0 THEN 'unknown' WHEN seq % 101 = 0 THEN 'failed' ELSE 'sent' END, enqueued_at, CASE WHEN seq % 1001 <> 0 AND seq % 101 = 0 THEN 131026 ELSE 0 END, 0, 1, '{"message_id":"wamid.HBgLMTU1NTAwMDExMTEVAgARGBI5QTND"}'
			FROM graphretry_message WHERE seq % 2 = 1`,
	} {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
	if where.kind == "postgres" {
		_, err := db.Exec("VACUUM ANALYZE graphretry_message, graphretry_queue, graphretry_record")
		require.NoError(t, err)
	}
}

// snapshot keeps a transaction open while many messages go through.
func (m meter) snapshot(t *testing.T) {
	where := m.place()
	if where.kind != "postgres" {
		t.Skip("it is about PostgreSQL")
	}
	o := openAt(t, where, slow(0), outbox.WithWorkers(speedWorkers), outbox.WithRate(1e6))
	n := measured(200_000)
	enqueueAll(t, o, "m", n, 500)
	db, _, err := where.connect()
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.Exec("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	require.NoError(t, err)
	_, err = tx.Exec("SELECT count(*) FROM graphretry_meta")
	require.NoError(t, err)
	perSecond := drain(t, o, n, n)
	enqueueAll(t, o, "after", 500, 500)
	var looks, claims []time.Duration
	for range 11 {
		look, err := outbox.TimeLook(o)
		require.NoError(t, err)
		claim, err := outbox.TimeClaim(o, phoneNumberID, 8)
		require.NoError(t, err)
		looks, claims = append(looks, look), append(claims, claim)
	}
	m.judge(t, max(mid(looks), mid(claims)) <= 20*time.Millisecond, "a transaction is open while %d go through, %.0f a second: then a look takes %v and a claim %v; want 20ms", n, perSecond, mid(looks), mid(claims))
}

func (m meter) limit(t *testing.T) {
	for _, processes := range []int{1, 3} {
		const limit = 80
		where := m.place()
		api := graphtest.New()
		api.SetLimit(limit, graphtest.Answer{Code: graphretry.CodeRateLimitHit})
		var outboxes []*outbox.Outbox
		for range processes {
			outboxes = append(outboxes, openAt(t, where, api))
		}
		n := measured(1500)
		enqueueAll(t, outboxes[0], "m", n, 500)
		for _, o := range outboxes[1:] {
			run(t, o)
		}
		took := float64(n) / drain(t, outboxes[0], n, n)
		totals, ideal := api.Totals(), float64(n)/limit
		m.judge(t, took <= 1.1*ideal && totals.Calls == totals.Accepted, "%d messages over a limit of %d a second, %d processes: %.2f of the ideal time, %d refused; want 1.1 and none",
			n, limit, processes, took/ideal, totals.Calls-totals.Accepted)
	}
}

// transaction measures what EnqueueTx adds to a transaction of the user's, between BEGIN and
// COMMIT, beside one plain INSERT of the same.
func (m meter) transaction(t *testing.T) {
	where := m.place()
	o := openAt(t, where, nil)
	db, _, err := where.connect()
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1) // and so the statements are prepared once
	const insert = "INSERT INTO graphretry_message (id, phone_number_id, payload) VALUES ($1, $2, $3)"
	text := payload(strings.Repeat("x", 100))
	var theirs, mine []time.Duration
	added := func(took *[]time.Duration, do func(tx *sql.Tx) error) {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, do(tx))
		*took = append(*took, time.Since(began))
		require.NoError(t, tx.Commit())
	}
	for i := range measured(1500) { // in turns, as the machine is not always the same
		added(&theirs, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), insert, fmt.Sprint(2*i), phoneNumberID, string(text))
			return err
		})
		added(&mine, func(tx *sql.Tx) error {
			return o.EnqueueTx(t.Context(), tx, outbox.Message{ID: fmt.Sprint(2*i + 1), PhoneNumberID: phoneNumberID, Payload: text})
		})
	}
	// The fastest tenth: the others have waited for the processor.
	least := func(took []time.Duration) time.Duration { slices.Sort(took); return took[len(took)/10] }
	ratio := least(mine).Seconds() / least(theirs).Seconds()
	m.judge(t, ratio <= 1.3, "EnqueueTx adds %v to a transaction, %.2f of an INSERT's %v; want 1.3", least(mine), ratio, least(theirs))
}

// decisions measures decisions about 100,000 messages, while another number sends.
func (m meter) decisions(t *testing.T) {
	where := m.place()
	o := openAt(t, where, nil) // another process, which only decides
	n := measured(100_000)
	campaign := func(prefix string, n int) {
		for begin := 0; begin < n; begin += 500 {
			var messages []outbox.Message
			for i := begin; i < min(n, begin+500); i++ {
				messages = append(messages, outbox.Message{ID: fmt.Sprint(prefix, i), PhoneNumberID: "222", Payload: payload("x"), Options: []outbox.EnqueueOption{outbox.Label(prefix)}})
			}
			require.NoError(t, o.EnqueueAll(t.Context(), messages))
		}
	}
	require.NoError(t, o.Pause(t.Context(), "222"))
	campaign("june", n)
	enqueueAll(t, o, "other", measured(20_000), 500)
	if where.kind == "postgres" {
		db, _, err := where.connect()
		require.NoError(t, err)
		_, err = db.Exec("VACUUM ANALYZE") // as autovacuum would have by then
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	run(t, openAt(t, where, slow(speedLatency), outbox.WithRate(200)))
	base := newBaseline(t, where)
	for begin := 0; begin < n; begin += 500 {
		base.enqueue(fmt.Sprint(begin), min(500, n-begin))
	}
	base.exec("CREATE INDEX baseline_state ON baseline (number, state)")
	began, state := time.Now(), 0
	// theirs is how long the baseline takes to set as many rows to another state with one
	// statement: about 1 s on an idle machine.
	theirs := func() time.Duration {
		state++
		began = time.Now()
		base.exec(fmt.Sprint("UPDATE baseline SET state = ", state))
		return time.Since(began)
	}
	filter := outbox.Filter{Label: "june"}
	for _, decision := range []struct {
		name string
		do   func() (int, error)
	}{
		{"DropAll", func() (int, error) { return o.DropAll(t.Context(), filter) }},
		{"ResendAll", func() (int, error) { return o.ResendAll(t.Context(), filter) }},
		{"ParkAll", func() (int, error) { return o.ParkAll(t.Context(), filter) }},
		{"DropAll of what is unknown", func() (int, error) { return o.DropAll(t.Context(), filter) }},
		{"DeleteAll", func() (int, error) { return o.DeleteAll(t.Context(), filter) }},
	} {
		least := theirs()
		before, err := o.Stats(t.Context())
		require.NoError(t, err)
		began, busy := time.Now(), cpu()
		done, err := decision.do()
		took := time.Since(began)
		t.Log(decision.name, "CPU", cpu()-busy)
		require.NoError(t, err)
		after, err := o.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, n, done)
		went := float64(after.States[outbox.StateSent]-before.States[outbox.StateSent]) / took.Seconds()
		m.judge(t, took <= 3*time.Second, "%s of %d messages takes %v, %.1f of one statement's %v, while another number sends %.0f a second; want 3s", decision.name, n, took, took.Seconds()/least.Seconds(), least, went)
	}
	n = measured(5000)
	campaign("july", n)
	m.resends(t, o, n, outbox.Filter{Label: "july"})
}

// resends measures ResendListed beside Resend of each message, while another number sends.
func (m meter) resends(t *testing.T, o *outbox.Outbox, n int, filter outbox.Filter) {
	resend := func(resend func([]outbox.Status) int) time.Duration {
		parked, err := o.ParkAll(t.Context(), filter)
		require.NoError(t, err)
		require.Equal(t, n, parked)
		began := time.Now()
		listed, err := o.List(t.Context(), filter)
		require.NoError(t, err)
		require.Equal(t, n, resend(listed))
		return time.Since(began)
	}
	each := resend(func(listed []outbox.Status) (done int) {
		for _, s := range listed {
			if o.Resend(t.Context(), s.ID) == nil {
				done++
			}
		}
		return done
	})
	all := resend(func(listed []outbox.Status) int {
		done, err := o.ResendListed(t.Context(), listed)
		require.NoError(t, err)
		return done
	})
	m.judge(t, each >= 5*all, "List and ResendListed of %d messages take %v, and Resend of each %v, %.1f times as long; want 5", n, all, each, each.Seconds()/all.Seconds())
}

// openAt opens an outbox, with a pool of its own.
func openAt(t *testing.T, where place, next http.RoundTripper, opts ...outbox.Option) *outbox.Outbox {
	t.Helper()
	db, database, err := where.connect()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	if where.kind == "postgres" {
		db.SetMaxOpenConns(80)
		db.SetMaxIdleConns(80)
	}
	o, err := outbox.Open(t.Context(), database, next, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.Close()) })
	return o
}

// slow is an API that accepts every message after a while.
func slow(latency time.Duration) http.RoundTripper {
	var ids atomic.Int64
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		if latency > 0 {
			time.Sleep(latency)
		}
		body := fmt.Sprintf(`{"messaging_product":"whatsapp","messages":[{"id":"wamid.HBgLMTU1NTAwMDExMTEVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3%08d"}]}`, ids.Add(1))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: newBody(body)}, nil
	})
}

// enqueueAll enqueues messages of one number.
func enqueueAll(t *testing.T, o *outbox.Outbox, prefix string, n, batch int) {
	t.Helper()
	for begin := 0; begin < n; begin += batch {
		var messages []outbox.Message
		for i := begin; i < min(n, begin+batch); i++ {
			messages = append(messages, outbox.Message{ID: fmt.Sprint(prefix, "-", i), PhoneNumberID: phoneNumberID, Payload: payload(strings.Repeat("x", 100))})
		}
		require.NoError(t, o.EnqueueAll(t.Context(), messages))
	}
}

// drain sends until that many are sent, and returns how many a second n of them are.
func drain(t *testing.T, o *outbox.Outbox, total, n int) float64 {
	t.Helper()
	began := time.Now()
	stop := run(t, o)
	defer stop()
	sent(t, o, total)
	return float64(n) / time.Since(began).Seconds()
}

// sent waits until that many are sent.
func sent(t *testing.T, o *outbox.Outbox, n int) {
	t.Helper()
	for {
		stats, err := o.Stats(t.Context())
		require.NoError(t, err)
		if stats.States[outbox.StateSent] == n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// syncsPerSecond returns how many small writes the disk confirms a second, one after the other.
func syncsPerSecond(t *testing.T, where place) float64 {
	t.Helper()
	file, err := os.CreateTemp("", "fsync")
	require.NoError(t, err)
	defer os.Remove(file.Name())
	defer file.Close()
	n, began := 0, time.Now()
	for ; time.Since(began) < 300*time.Millisecond; n++ {
		_, err = file.Write(make([]byte, 300))
		require.NoError(t, err)
		require.NoError(t, file.Sync())
	}
	return float64(n) / time.Since(began).Seconds()
}

// inUse returns the memory in use.
func inUse() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse + stats.StackInuse
}

func mid[T float64 | time.Duration](values []T) T {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}
