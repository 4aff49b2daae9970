package outbox_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

// These lines stand in docs/database.md.
type pgxTx struct{ pgx.Tx }

func (tx pgxTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := tx.Exec(ctx, query, args...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// tables returns the database itself, in which the bench has its outbox.
func (b *bench) tables() (place, *sql.DB) {
	b.t.Helper()
	where := newPlace(b.t)
	b.database = func() outbox.Database { return where.open(b.t) }
	b.Outbox = b.open(nil)
	db, _, err := where.connect()
	require.NoError(b.t, err)
	b.t.Cleanup(func() { assert.NoError(b.t, db.Close()) })
	return where, db
}

func newMessage(id string, opts ...outbox.EnqueueOption) outbox.Message {
	return outbox.Message{ID: id, PhoneNumberID: phoneNumberID, Payload: payload(id), Options: opts}
}

// inTransactions enqueues messages in n transactions, rolls back every second one, and returns
// the ids of the others.
func inTransactions(t *testing.T, o *outbox.Outbox, n int, begin func() (outbox.Execer, func() error, func() error)) (kept []string) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for caller := range 4 {
		all.Go(func() {
			for i := caller; i < n; i += 4 {
				tx, commit, rollback := begin()
				var messages []outbox.Message
				for j := range 1 + i%3 {
					messages = append(messages, newMessage(fmt.Sprintf("%d-%d", i, j)))
				}
				assert.NoError(t, o.EnqueueTx(t.Context(), tx, messages...))
				if i%2 == 1 {
					assert.NoError(t, rollback())
					continue
				}
				assert.NoError(t, commit())
				mu.Lock()
				for _, m := range messages {
					kept = append(kept, m.ID)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return kept
}

// transactions returns how many transactions a test makes.
func transactions() int {
	if n, err := strconv.Atoi(os.Getenv("OUTBOX_PROOF_MESSAGES")); err == nil {
		return n
	}
	return 60
}

func TestProofMessageIsSentIfAndOnlyIfItsTransactionCommits(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	run(t, b.Outbox)
	kept := inTransactions(t, b.Outbox, transactions(), func() (outbox.Execer, func() error, func() error) {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		begin, end := "BEGIN", func(how string) func() error {
			return func() error {
				defer conn.Close()
				_, err := conn.ExecContext(t.Context(), how)
				return err
			}
		}
		if os.Getenv(kindVariable) != "postgres" {
			begin = "BEGIN IMMEDIATE" // a transaction that comes to write later may be refused
		}
		_, err = conn.ExecContext(t.Context(), begin)
		require.NoError(t, err)
		return conn, end("COMMIT"), end("ROLLBACK")
	})
	b.sentExactly(kept)

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, b.EnqueueTx(t.Context(), tx, newMessage("undone")))
	require.NoError(t, tx.Rollback())
	tx, err = db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, b.EnqueueTx(t.Context(), tx, newMessage("done"), newMessage("done"), newMessage("also")))
	require.NoError(t, tx.Commit())
	b.sentExactly(append(kept, "done", "also"))
}

// sentExactly waits until these messages are sent, and checks that no others were.
func (b *bench) sentExactly(ids []string) {
	b.t.Helper()
	for _, id := range ids {
		b.becomesKnown(id)
		b.becomes(id, outbox.StateSent)
	}
	accepted := b.api.Accepted()
	assert.Len(b.t, accepted, len(ids))
	assert.Empty(b.t, b.api.Duplicates())
}

func (b *bench) becomesKnown(id string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		_, err := b.Status(b.t.Context(), id)
		return err == nil
	}, patience, 5*time.Millisecond)
}

func TestProofMessageIsSentIfAndOnlyIfItsPgxTransactionCommits(t *testing.T) {
	onPostgres(t)
	b := newHarness(t)
	where, _ := b.tables()
	pool, err := pgxpool.New(t.Context(), where.where)
	require.NoError(t, err)
	defer pool.Close()
	run(t, b.Outbox)
	kept := inTransactions(t, b.Outbox, transactions(), func() (outbox.Execer, func() error, func() error) {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		return pgxTx{tx}, func() error { return tx.Commit(t.Context()) }, func() error { return tx.Rollback(t.Context()) }
	})
	b.sentExactly(kept)
}

func TestRowThatIsInsertedIsAMessage(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	insert := func(columns, values string, args ...any) {
		t.Helper()
		_, err := db.Exec("INSERT INTO graphretry_message (id, phone_number_id, payload"+columns+") VALUES ($1, $2, $3"+values+")", args...)
		require.NoError(t, err)
	}
	require.NoError(t, b.Enqueue(t.Context(), "deleted", phoneNumberID, payload("x")))
	require.NoError(t, b.Delete(t.Context(), "deleted"))
	insert("", "", "deleted", phoneNumberID, string(payload("deleted")))
	insert("", "", "plain", phoneNumberID, string(payload("plain")))
	insert(", urgent, label, not_before", ", TRUE, 'june', 0", "urgent", phoneNumberID, string(payload("urgent")))
	insert(", expires_at", fmt.Sprint(", ", time.Now().Add(-time.Hour).UnixMicro()), "old", phoneNumberID, string(payload("old")))
	insert(", not_before", fmt.Sprint(", ", time.Now().Add(time.Hour).UnixMicro()), "later", phoneNumberID, string(payload("later")))
	for id, bad := range map[string][2]string{
		"number": {"+49 30", string(payload("x"))}, "json": {phoneNumberID, "none"}, "own": {phoneNumberID, `{"biz_opaque_callback_data":"mine"}`},
		"long": {phoneNumberID, `{"to":"` + strings.Repeat("é", 1<<19) + `"}`},
	} {
		insert("", "", id, bad[0], bad[1])
	}
	insert(", not_before", ", -5", "time", phoneNumberID, string(payload("x")))
	insert(", label", ", '"+strings.Repeat("x", 129)+"'", "label", phoneNumberID, string(payload("x")))

	// Each message exists as soon as it is inserted.
	status, err := b.Status(t.Context(), "plain")
	require.NoError(t, err)
	assert.Equal(t, outbox.StateQueued, status.State)
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 11, stats.States[outbox.StateQueued])
	assert.Len(t, b.idsOf(outbox.Filter{States: []outbox.State{outbox.StateQueued}}), 11)
	require.NoError(t, b.Enqueue(t.Context(), "plain", phoneNumberID, payload("another")), "the first one counts")

	run(t, b.Outbox)
	assert.Equal(t, 0, b.becomes("plain", outbox.StateSent).Retries)
	assert.Equal(t, "june", b.becomes("urgent", outbox.StateSent).Label)
	for id, reason := range map[string]string{
		"number": "digits of the id", "json": "not a JSON object", "own": "biz_opaque_callback_data", "long": "1048576 bytes",
		"time": "not_before", "label": "129 bytes", "old": "older than the maximum age",
	} {
		assert.Contains(t, b.becomes(id, outbox.StateFailed).Reason, reason)
	}
	assert.False(t, b.becomes("later", outbox.StateQueued).NotBefore.IsZero())
	_, err = b.Status(t.Context(), "deleted")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
	bodies := map[string]string{}
	for _, accepted := range b.api.Accepted() {
		var body struct {
			ID   string `json:"biz_opaque_callback_data"`
			Text struct{ Body string }
		}
		require.NoError(t, json.Unmarshal(accepted.Body, &body))
		bodies[body.ID] = body.Text.Body
	}
	assert.Equal(t, map[string]string{"plain": "plain", "urgent": "urgent"}, bodies)
}

func TestTransactionThatStaysOpenStopsNobody(t *testing.T) {
	onPostgres(t)
	b := newHarness(t, outbox.WithRecipientOrder())
	_, db := b.tables()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, b.EnqueueTx(t.Context(), tx, newMessage("open"), newMessage("also open")))
	run(t, b.Outbox)
	b.enqueue("a", "b")
	b.becomes("a", outbox.StateSent)
	b.becomes("b", outbox.StateSent)
	_, err = b.Status(t.Context(), "open")
	require.ErrorIs(t, err, outbox.ErrNotFound)
	require.NoError(t, tx.Commit())
	b.becomes("open", outbox.StateSent)
	b.becomes("also open", outbox.StateSent)
}

// A committed message comes before one that is enqueued afterwards, although it has to be
// adopted.
func TestRecipientsOrderHoldsForWhatWasCommitted(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	o := b.open(nil, outbox.WithRecipientOrder(), outbox.WithWorkers(16))
	other := b.open(nil, outbox.WithRecipientOrder(), outbox.WithWorkers(16))
	run(t, o)
	run(t, other)
	var want []string
	for i := range 30 {
		id := fmt.Sprintf("%02d", i)
		want = append(want, id)
		if i%2 == 0 {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, b.EnqueueTx(t.Context(), tx, newMessage(id)))
			require.NoError(t, tx.Commit())
			continue
		}
		require.NoError(t, o.Enqueue(t.Context(), id, phoneNumberID, payload(id)))
	}
	for _, id := range want {
		b.becomes(id, outbox.StateSent)
	}
	var got []string
	for _, accepted := range b.api.Accepted() {
		got = append(got, accepted.CallbackData)
	}
	assert.Equal(t, want, got)
}

func TestMessagesOfACallKeepTheirOrder(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	o := b.open(nil, outbox.WithRecipientOrder())
	var messages []outbox.Message
	var want []string
	for _, i := range []int{7, 3, 9, 1, 5, 0} {
		id := strconv.Itoa(i)
		want, messages = append(want, id), append(messages, newMessage(id))
	}
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, b.EnqueueTx(t.Context(), tx, messages...))
	require.NoError(t, tx.Commit())
	run(t, o)
	for _, id := range want {
		b.becomes(id, outbox.StateSent)
	}
	var got []string
	for _, accepted := range b.api.Accepted() {
		got = append(got, accepted.CallbackData)
	}
	assert.Equal(t, want, got)
}

func TestWhatCannotBeIsInvalid(t *testing.T) {
	b := newHarness(t)
	_, db := b.tables()
	ctx := t.Context()
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, opening := outbox.Open(ctx, outbox.Database{}, nil, outbox.WithWorkers(0))
	_, transport := outbox.Open(ctx, b.database(), nil, outbox.WithTransportOptions(nil...), outbox.WithName("A"))
	_, listing := b.List(ctx, outbox.Filter{Limit: -1})
	_, state := b.List(ctx, outbox.Filter{States: []outbox.State{"lost"}})
	_, label := b.List(ctx, outbox.Filter{Label: strings.Repeat("x", 200)})
	_, dropping := b.DropAll(ctx, outbox.Filter{States: []outbox.State{outbox.StateSent}})
	_, status := b.Status(ctx, "")
	var none *sql.Tx
	for name, err := range map[string]error{
		"Database": opening, "option": transport, "limit": listing, "state": state, "label of a filter": label, "states": dropping, "id": status,
		"number": b.Enqueue(ctx, "a", "x", payload("x")), "payload": b.EnqueueTx(ctx, tx, outbox.Message{ID: "a", PhoneNumberID: phoneNumberID}),
		"no transaction": b.EnqueueTx(ctx, nil, newMessage("a")), "nil": b.EnqueueTx(ctx, none, newMessage("a")),
		"label": outbox.Check(newMessage("a", outbox.Label(""))), "NUL": outbox.Check(newMessage("a", outbox.Label("\x00"))),
		"never": outbox.Check(newMessage("a", outbox.NotBefore(time.Now().Add(time.Hour)), outbox.ExpiresAt(time.Now()))),
		"age":   b.EnqueueTx(ctx, tx, newMessage("a", outbox.NotBefore(time.Now().Add(48*time.Hour)))),
		"pause": b.Pause(ctx, "x"), "webhook": b.HandleWebhook(ctx, []byte("x")),
	} {
		assert.ErrorIs(t, err, outbox.ErrInvalid, name)
	}
	assert.NoError(t, outbox.Check(newMessage("a", outbox.Label("june"), outbox.Urgent())))
	assert.NotErrorIs(t, b.Resend(ctx, "none"), outbox.ErrInvalid)
	require.NoError(t, b.EnqueueTx(ctx, tx, newMessage("a")), "the transaction is as it was")
	require.NoError(t, b.EnqueueTx(ctx, tx))
}

// failing is a transaction that fails.
type failing struct{ err error }

func (f failing) ExecContext(context.Context, string, ...any) (sql.Result, error) { return nil, f.err }

func TestNothingIsTriedAgainInATransaction(t *testing.T) {
	b := newHarness(t)
	for _, code := range []string{"40001", "40P01"} {
		var state *pgconn.PgError
		require.ErrorAs(t, b.EnqueueTx(t.Context(), failing{&pgconn.PgError{Code: code}}, newMessage("a")), &state)
		assert.Equal(t, code, state.Code)
	}
	if os.Getenv(kindVariable) == "postgres" {
		// An error of the database: the same id in a snapshot that does not have it.
		_, db := b.tables()
		tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		require.NoError(t, err)
		_, err = tx.Exec("SELECT count(*) FROM graphretry_message")
		require.NoError(t, err)
		b.enqueue("a")
		var state *pgconn.PgError
		require.ErrorAs(t, b.EnqueueTx(t.Context(), tx, newMessage("a")), &state)
		assert.Equal(t, "40001", state.Code)
		require.NoError(t, tx.Rollback())
		return
	}
	_, db := b.tables()
	first, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer first.Close()
	_, err = first.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 0")
	require.NoError(t, err)
	var busy interface{ Code() int }
	require.ErrorAs(t, b.EnqueueTx(t.Context(), conn, newMessage("a")), &busy)
	assert.Equal(t, 5, busy.Code(), "SQLITE_BUSY")
	_, err = first.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}

// Two transactions that insert the same ids in opposite order do not wait for each other.
func TestTransactionsWithTheSameIDsDoNotDeadlock(t *testing.T) {
	onPostgres(t)
	b := newHarness(t)
	_, db := b.tables()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			var messages []outbox.Message
			for j := range 50 {
				if i%2 == 1 {
					j = 49 - j
				}
				messages = append(messages, newMessage(fmt.Sprint(j)))
			}
			tx, err := db.BeginTx(t.Context(), nil)
			if assert.NoError(t, err) && assert.NoError(t, b.EnqueueTx(t.Context(), tx, messages...)) {
				assert.NoError(t, tx.Commit())
			}
		})
	}
	all.Wait()
	stats, err := b.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 50, stats.States[outbox.StateQueued])
}
