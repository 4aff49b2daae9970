package outbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

var (
	// errConflict: somebody else has changed the record meanwhile.
	errConflict = errors.New("outbox: the record was changed by somebody else")
	// errUnreadable: a record or an entry in the queue is not one of ours.
	errUnreadable = errors.New("outbox: not in a form that this version reads")
)

// store is the outbox's part of JetStream: one stream, so that what belongs together is
// written together or not at all. It keeps the last message of each subject.
//
//	NAME.record.NUMBER.KEY    what is known of a message
//	NAME.payload.NUMBER.KEY   its payload, written once
//	NAME.queue.NUMBER.KEY     its entry in the queue
//	NAME.urgent.NUMBER.KEY    ... in that of the urgent ones
//	NAME.wait.NUMBER.KEY      ... which the server moves there at its time
//	NAME.failed.NUMBER.KEY    there while it has failed, so that it can be found and counted
//	NAME.unknown.NUMBER.KEY   ... while it is unknown
//	NAME.after.NUMBER.KEY     ... while it waits for its turn with a recipient
//	NAME.deleted.NUMBER.KEY   ... after it was deleted
//	NAME.turn.NUMBER.HASH     who waits for their turn with a recipient
//	NAME.rate.NUMBER          what was leased of the number's rate
//	NAME.lane.NUMBER          there if messages were enqueued for the number
//	NAME.held.NUMBER          why a process holds the number, and until when
//	NAME.pause.NUMBER         whether the number is paused; NUMBER "all": whether all are
type store struct {
	js     jetstream.JetStream
	name   string
	stream jetstream.Stream
	leader nats.JetStreamManager // asks the leader of the stream, and no replica that lags behind
	group  *writeGroup           // of the writes of several messages
	// before is asked before each write; a test ends a process there. nil: nobody is.
	before func(op string) error
}

// The kinds of subjects.
const (
	kindRecord  = "record"
	kindPayload = "payload"
	kindQueue   = "queue"
	kindUrgent  = "urgent"
	kindWait    = "wait"
	kindFailed  = "failed"
	kindUnknown = "unknown"
	kindAfter   = "after"
	kindDeleted = "deleted"
	kindTurn    = "turn"
	kindRate    = "rate"
	kindLane    = "lane"
	kindHeld    = "held"
	kindPause   = "pause"
)

// subject joins the tokens of a subject.
func (s *store) subject(tokens ...string) string { return s.name + "." + strings.Join(tokens, ".") }

// stored is a record as it was read or written.
type stored struct {
	record
	number   string
	key      string
	revision uint64 // the sequence of its message
}

// put is one message of a write.
type put struct {
	subject string
	header  nats.Header
	data    []byte
	// expected is the sequence of the last message of expectedOn, or else nothing is
	// written; with expectedOn "" it does not matter.
	expected   uint64
	expectedOn string
}

// message returns the put as it is published.
func (p put) message() *nats.Msg {
	msg := &nats.Msg{Subject: p.subject, Header: nats.Header{}, Data: p.data}
	for name, values := range p.header {
		msg.Header[name] = values
	}
	if p.expectedOn != "" {
		msg.Header.Set(headerExpected, strconv.FormatUint(p.expected, 10))
		if p.expectedOn != p.subject {
			msg.Header.Set(headerExpectedOn, p.expectedOn)
		}
	}
	return msg
}

// Headers of JetStream's.
const (
	headerExpected       = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedOn     = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	headerPending        = "Nats-Num-Pending"
)

// tryTimeout bounds one question to JetStream. A server that has just lost its
// leader does not answer, and the next try may reach the new one.
const tryTimeout = 3 * time.Second

// persist asks JetStream until it answers or ctx ends. Everything asked through
// it may be asked twice.
func persist(ctx context.Context, ask func(context.Context) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := ask(try)
		cancel()
		if err == nil || final(err) {
			return err
		}
		if pause(ctx, wait) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// final reports whether asking again would get the same answer.
func final(err error) bool {
	for _, is := range []error{
		errConflict, errUnreadable, errNewer, ErrNotFound, nats.ErrMaxPayload, nats.ErrConnectionClosed,
		jetstream.ErrStreamNotFound, jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(fullErrors, api.ErrorCode)
}

// fullErrors are JetStream's codes for a stream, an account or a disk that is full:
// messages, bytes, storage of the server, memory, and a message that is too large.
var fullErrors = []jetstream.ErrorCode{10077, 10076, 10047, 10028, 10023, 10054}

// roomErrors are those of a server that has no more room.
var roomErrors = []jetstream.ErrorCode{10047, 10028, 10023}

// conflictErrors are its codes for a last message that is not the expected one.
var conflictErrors = []jetstream.ErrorCode{10071, 10164}

// pause waits. It returns an error if ctx ends first.
func pause(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// last reads the last message of a subject, [ErrNotFound] if there is none. On a cluster
// a replica may answer that lags behind; whoever acts on that writes with the sequence,
// which then fails. That there is none, the leader alone is asked.
func (s *store) last(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	var found *jetstream.RawStreamMsg
	err := persist(ctx, func(ctx context.Context) (err error) {
		found, err = s.stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return ErrNotFound
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return s.latest(ctx, subject)
	}
	return found, err
}

// latest is last as the leader has it.
func (s *store) latest(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	var found *nats.RawStreamMsg
	err := persist(ctx, func(ctx context.Context) (err error) {
		found, err = s.leader.GetLastMsg(s.name, subject, nats.Context(ctx))
		if errors.Is(err, nats.ErrMsgNotFound) {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &jetstream.RawStreamMsg{Subject: found.Subject, Sequence: found.Sequence, Header: found.Header, Data: found.Data, Time: found.Time}, nil
}

// load reads a record.
func (s *store) load(ctx context.Context, key string) (stored, error) {
	msg, err := s.last(ctx, s.subject(kindRecord, "*", key))
	if err != nil {
		return stored{}, err
	}
	return s.parse(msg)
}

// reload reads a record as the leader has it.
func (s *store) reload(ctx context.Context, key string) (stored, error) {
	msg, err := s.latest(ctx, s.subject(kindRecord, "*", key))
	if err != nil {
		return stored{}, err
	}
	return s.parse(msg)
}

// parse reads a record out of its message. That of a message that was deleted comes with
// an error.
func (s *store) parse(msg *jetstream.RawStreamMsg) (stored, error) {
	tokens := strings.Split(msg.Subject, ".")
	found := stored{revision: msg.Sequence}
	if len(tokens) != 4 {
		return found, fmt.Errorf("%w: subject %s", errUnreadable, msg.Subject)
	}
	found.number, found.key = tokens[2], tokens[3]
	err := json.Unmarshal(msg.Data, &found.record)
	switch {
	case found.Version > schemaVersion || err != nil && isNewer(msg.Data):
		return found, fmt.Errorf("%w: record %s", errNewer, found.key)
	case err == nil && found.State == stateDeleted:
		return found, errDeleted
	case err != nil || keyOf(found.ID) != found.key || !found.sound():
		return found, fmt.Errorf("%w: record %s", errUnreadable, found.key)
	}
	return found, nil
}

// isNewer reports whether a later version of this package wrote something.
func isNewer(data []byte) bool {
	var written struct {
		Version int `json:"v"`
	}
	return json.Unmarshal(data, &written) == nil && written.Version > schemaVersion
}

// save writes a record over the one that it was made from; with the revision 0
// over none. What else there is to put is written with it, or nothing is. If somebody
// else was faster it fails with errConflict. An answer that is lost is no failure: the
// write is found, or made again.
func (s *store) save(ctx context.Context, next stored, others ...put) (stored, error) {
	p, err := s.recordPut(&next)
	if err != nil {
		return stored{}, err
	}
	puts := append(others, p)
	err = persist(ctx, func(ctx context.Context) error {
		last, err := s.write(ctx, puts...)
		if errors.Is(err, errConflict) {
			current, loading := s.reload(ctx, next.key)
			switch {
			case loading == nil && current.Write == next.Write:
				next.revision = current.revision
				return nil
			case loading != nil && !final(loading):
				return loading
			}
		}
		if err == nil {
			next.revision = last
		}
		return err
	})
	return next, err
}

// recordPut returns what writes a record over the one that it was made from, with a
// nonce of its own.
func (s *store) recordPut(next *stored) (put, error) {
	next.Version, next.Write = schemaVersion, rand.Text()[:13]
	value, err := json.Marshal(next.record)
	if err != nil {
		return put{}, fmt.Errorf("outbox: cannot encode the record: %w", err)
	}
	p := put{subject: s.subject(kindRecord, next.number, next.key), data: value, expected: next.revision}
	if p.expectedOn = p.subject; next.revision == 0 {
		p.expectedOn = s.subject(kindRecord, "*", next.key)
	}
	return p, nil
}

// write puts messages into the stream, all or none, and returns the sequence of the last.
// Several go with what others write at the same time.
func (s *store) write(ctx context.Context, puts ...put) (uint64, error) {
	if err := s.ask("write"); err != nil {
		return 0, err
	}
	if len(puts) > 1 {
		last, err := s.group.join(ctx, puts)
		return last, s.explain(err)
	}
	ack, err := s.js.PublishMsg(ctx, puts[0].message())
	if err != nil {
		return 0, s.explain(conflict(err))
	}
	return ack.Sequence, nil
}

// writeBatch writes several messages.
func (s *store) writeBatch(ctx context.Context, puts []put) (uint64, error) {
	messages := make([]*nats.Msg, len(puts))
	for i, p := range puts {
		messages[i] = p.message()
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, s.js, messages, jetstreamext.BatchFlowControl{})
	if err != nil {
		return 0, conflict(err)
	}
	return ack.Sequence, nil
}

// conflict returns errConflict for JetStream's word for it, and any other error as it is.
func conflict(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && slices.Contains(conflictErrors, api.ErrorCode) {
		return errConflict
	}
	return err
}

// stale reports which writes expect a message to be the last of its subject that is not.
func (s *store) stale(ctx context.Context, writes []*groupWrite) (map[*groupWrite]bool, error) {
	var subjects []string
	for _, w := range writes {
		for _, p := range w.puts {
			if p.expectedOn != "" {
				subjects = append(subjects, p.expectedOn)
			}
		}
	}
	last := make(map[string]uint64)
	err := s.eachLast(ctx, subjects, func(msg *jetstream.RawStreamMsg) error {
		last[msg.Subject] = msg.Sequence
		if tokens := strings.Split(msg.Subject, "."); len(tokens) == 4 {
			last[s.subject(tokens[1], "*", tokens[3])] = msg.Sequence // whatever its number
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found := make(map[*groupWrite]bool)
	for _, w := range writes {
		for _, p := range w.puts {
			if p.expectedOn != "" && last[p.expectedOn] != p.expected {
				found[w] = true
			}
		}
	}
	return found, nil
}

// put writes one message, whatever else happens to its subject unless it expects a last
// one. It may be written twice.
func (s *store) put(ctx context.Context, p put) error {
	return persist(ctx, func(ctx context.Context) error {
		_, err := s.write(ctx, p)
		return err
	})
}

// explain says in words what JetStream says in a code, or not at all.
func (s *store) explain(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil || errors.Is(err, errConflict):
		return err
	case errors.As(err, &api) && slices.Contains(roomErrors, api.ErrorCode):
		return fmt.Errorf("the server has no more room, on its disk or by its limits for JetStream: %w", err)
	}
	if server, ok := s.js.(interface{ mend() error }); ok {
		if trouble := server.mend(); trouble != nil {
			return fmt.Errorf("the server cannot write to its disk: %w", trouble)
		}
	}
	return err
}

// remove takes one message out of the stream, if it is there.
func (s *store) remove(ctx context.Context, sequence uint64) error {
	if err := s.ask("remove"); err != nil {
		return err
	}
	return persist(ctx, func(ctx context.Context) error {
		err := s.stream.DeleteMsg(ctx, sequence)
		var api *jetstream.APIError
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) || errors.Is(err, jetstream.ErrMsgNotFound) || errors.As(err, &api) && api.Code == 404 {
			return nil
		}
		return err
	})
}

// clear takes the message of a subject out of the stream, if there is one.
func (s *store) clear(ctx context.Context, subject string) error {
	if err := s.ask("clear"); err != nil {
		return err
	}
	return persist(ctx, func(ctx context.Context) error {
		return s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
	})
}

func (s *store) ask(op string) error {
	if s.before == nil {
		return nil
	}
	return s.before(op)
}

// entryPut returns what puts a message's entry into the queue, at its time.
func (s *store) entryPut(r *stored, now time.Time) (put, error) {
	value, err := json.Marshal(r.entry())
	if err != nil {
		return put{}, fmt.Errorf("outbox: cannot encode the entry: %w", err)
	}
	queue := s.subject(queueKind(r.Urgent), r.number, r.key)
	if !r.NotBefore.After(now) {
		return put{subject: queue, data: value}, nil
	}
	return put{
		subject: s.subject(kindWait, r.number, r.key), data: value,
		header: nats.Header{
			headerSchedule:       {"@at " + r.NotBefore.UTC().Format(time.RFC3339Nano)},
			headerScheduleTarget: {queue},
		},
	}, nil
}

func queueKind(urgent bool) string {
	if urgent {
		return kindUrgent
	}
	return kindQueue
}

// parkedKind is the kind of the subject by which messages of a state are found, "" for
// none.
func parkedKind(state State) string {
	switch state {
	case StateFailed:
		return kindFailed
	case StateUnknown:
		return kindUnknown
	}
	return ""
}
