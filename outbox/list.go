package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/graphretry/graphretry"
)

// Filter says which messages are meant. Every field that is set must fit; the zero
// Filter means all messages.
type Filter struct {
	// States are the states that fit; none means all.
	States []State
	// PhoneNumberID is the business's phone number.
	PhoneNumberID string
	// Code is the code or the subcode of what Meta said last.
	Code graphretry.Code
	// OlderThan fits messages that were enqueued at least so long ago.
	OlderThan time.Duration
	// After fits messages whose [Status.Revision] is above it: for the next page, give
	// that of the last message of this one. A message that changes meanwhile comes once
	// more, at the end; none is left out.
	After uint64
	// Limit is how many messages [Outbox.List] returns at most; 0 means all.
	Limit int
}

// fits reports whether a record is meant.
func (f *Filter) fits(r *stored, now time.Time) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.PhoneNumberID == "" || f.PhoneNumberID == r.number) &&
		(f.Code == 0 || r.Graph != nil && (r.Graph.Code == f.Code || r.Graph.Subcode == int(f.Code))) &&
		now.Sub(r.Enqueued.Time) >= f.OlderThan &&
		r.revision > f.After
}

// parkedOnly returns the kinds of subjects by which all messages of the filter's states
// are found, if there are some.
func (f *Filter) parkedOnly() []string {
	var kinds []string
	for _, state := range f.States {
		kind := parkedKind(state)
		if kind == "" {
			return nil
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

// List returns the messages that a filter means, the longest unchanged first. It reads
// the records in that order until it has Limit of them. Where the filter has no other
// states than StateFailed and StateUnknown it reads those alone, all of them. On a cluster
// it may lag a moment behind. It tries for as long as ctx lasts, or 5 minutes.
func (o *Outbox) List(ctx context.Context, filter Filter) ([]Status, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := o.list(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the messages: %w", err)
	}
	return found, nil
}

func (o *Outbox) list(ctx context.Context, filter Filter) ([]Status, error) {
	if filter.Limit < 0 {
		return nil, fmt.Errorf("Filter.Limit is %d: want 0 for all, or more", filter.Limit)
	}
	number := filter.PhoneNumberID
	if number == "" {
		number = "*"
	} else if !phoneNumberIDPattern.MatchString(number) {
		return nil, fmt.Errorf("Filter.PhoneNumberID is %q: want the digits of the id", number)
	}
	var found []Status
	see := func(r stored, err error) (more bool) {
		if err == nil && filter.fits(&r, o.now()) {
			found = append(found, r.status())
		}
		return filter.Limit == 0 || len(found) < filter.Limit
	}
	kinds := filter.parkedOnly()
	if kinds == nil {
		subject, after := o.store.subject(kindRecord, number, "*"), filter.After
		if after == 0 {
			first, err := o.store.earliest(ctx, subject)
			if errors.Is(err, ErrNotFound) || err == nil && !see(o.store.parse(first)) {
				return found, nil
			}
			if err != nil {
				return nil, err
			}
			after = first.Sequence
		}
		err := o.store.each(ctx, subject, after, pageOf(filter.Limit), func(msg *jetstream.RawStreamMsg) bool {
			return see(o.store.parse(msg))
		})
		return found, err
	}
	limit := filter.Limit
	filter.Limit = 0 // they come in another order
	for _, kind := range kinds {
		var failed error
		err := o.store.each(ctx, o.store.subject(kind, number, "*"), 0, page, func(msg *jetstream.RawStreamMsg) bool {
			r, err := o.store.load(ctx, lastToken(msg.Subject))
			if err != nil && !final(err) {
				failed = err
				return false
			}
			return see(r, err)
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b Status) int { return int(int64(a.Revision) - int64(b.Revision)) })
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found, nil
}

// ResendAll is [Outbox.Resend] for each message that is unknown or failed and that a
// filter means. One that has changed meanwhile, so that Resend refuses it, is passed
// over. It returns how many it has put back into the queue, also beside an error.
// Repeating it is safe.
func (o *Outbox) ResendAll(ctx context.Context, filter Filter) (int, error) {
	return o.decreeAll(ctx, filter, []State{StateUnknown, StateFailed}, o.Resend)
}

// DropAll is [Outbox.Drop] for each message that is unknown or queued and that a
// filter means. One that has changed meanwhile, so that Drop refuses it, is passed over.
// It returns how many it has given up, also beside an error. Repeating it is safe.
func (o *Outbox) DropAll(ctx context.Context, filter Filter) (int, error) {
	return o.decreeAll(ctx, filter, []State{StateUnknown, StateQueued}, o.Drop)
}

// decreeAll carries out a person's decision for each message that is meant and in one
// of these states.
func (o *Outbox) decreeAll(ctx context.Context, filter Filter, states []State, decree func(context.Context, string) error) (int, error) {
	if len(filter.States) == 0 {
		filter.States = states
	}
	for _, state := range filter.States {
		if !slices.Contains(states, state) {
			return 0, fmt.Errorf("outbox: Filter.States has %s: want some of %v", state, states)
		}
	}
	meant, err := o.List(ctx, filter)
	if err != nil {
		return 0, err
	}
	done := 0
	for _, status := range meant {
		switch err := decree(ctx, status.ID); {
		case err == nil:
			done++
		case !errors.Is(err, errRefused) && !errors.Is(err, ErrNotFound):
			return done, err
		}
	}
	return done, nil
}

// Stats is what is in an outbox.
type Stats struct {
	// States counts the messages by their state. StateQueued has those with it that are
	// being sent.
	States map[State]int
	// Numbers has the same for each phone number.
	Numbers map[string]NumberStats
	// OldestQueued is when the message was enqueued that stands first in the queue, of
	// those of all phone numbers; zero if there is none.
	OldestQueued time.Time
	// Paused reports whether all numbers are paused: see [Outbox.Pause].
	Paused bool
	// APIDown reports whether this process holds the API to be down.
	APIDown bool
}

// NumberStats is what is in an outbox for one phone number.
type NumberStats struct {
	// States counts the messages by their state, as those of [Stats].
	States map[State]int
	// Paused reports whether this number is paused by itself.
	Paused bool
	// NextProbe is when the next probe may go, if a process holds the number; zero
	// if none does. Where several hold it, it is that of the one that has tried last.
	NextProbe time.Time
	// HeldFor is why it is held, "" if it is not.
	HeldFor string
}

// Stats counts the messages; the server does that, without reading them. What it says of
// the API is what this process has found out.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return Stats{}, err
	}
	defer done()
	stats, err := o.stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("outbox: cannot count the messages: %w", err)
	}
	return stats, nil
}

func (o *Outbox) stats(ctx context.Context) (Stats, error) {
	stats := Stats{States: make(map[State]int), Numbers: make(map[string]NumberStats), APIDown: o.outage.down.Load()}
	paused := make(map[string]bool)
	err := o.store.each(ctx, o.store.subject(kindPause, "*"), 0, page, func(msg *jetstream.RawStreamMsg) bool {
		paused[lastToken(msg.Subject)] = string(msg.Data) == "true"
		return true
	})
	if err != nil {
		return Stats{}, err
	}
	stats.Paused = paused[pauseAll]
	holds, err := o.allHeld(ctx)
	if err != nil {
		return Stats{}, err
	}
	var numbers []string
	err = o.store.each(ctx, o.store.subject(kindLane, "*"), 0, page, func(msg *jetstream.RawStreamMsg) bool {
		numbers = append(numbers, lastToken(msg.Subject))
		return true
	})
	if err != nil {
		return Stats{}, err
	}
	for _, number := range numbers {
		s := NumberStats{States: make(map[State]int), Paused: paused[number]}
		s.NextProbe, s.HeldFor = holds[number].NextProbe.Time, holds[number].Reason
		count := func(state State, kinds ...string) {
			for _, kind := range kinds {
				if err != nil {
					return
				}
				var n int
				if n, err = o.count(ctx, kind, number); n > 0 {
					s.States[state] += n
				}
				if state == StateQueued && n > 0 && err == nil {
					err = o.seeOldest(ctx, &stats, kind, number)
				}
			}
		}
		count(StateFailed, kindFailed)
		count(StateUnknown, kindUnknown)
		count(StateQueued, kindQueue, kindUrgent, kindWait, kindAfter)
		count(stateDeleted, kindDeleted)
		others := s.States[StateFailed] + s.States[StateUnknown] + s.States[StateQueued] + s.States[stateDeleted]
		delete(s.States, stateDeleted)
		count(StateSent, kindRecord)
		if err != nil {
			return Stats{}, err
		}
		if s.States[StateSent] -= others; s.States[StateSent] <= 0 {
			delete(s.States, StateSent)
		}
		for state, n := range s.States {
			stats.States[state] += n
		}
		stats.Numbers[number] = s
	}
	return stats, nil
}

// count returns how many messages of a number have a subject of that kind. Where they can
// be many a consumer counts them, all the time; for the others the server does it now.
func (o *Outbox) count(ctx context.Context, kind, number string) (int, error) {
	switch kind {
	case kindQueue, kindUrgent, kindRecord:
	default:
		n, _, err := o.store.count(ctx, o.store.subject(kind, number, "*"))
		return n, err
	}
	consumer, err := o.store.js.Consumer(ctx, o.name, consumerName(kind, number))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = o.makeConsumer(ctx, kind, number)
	}
	if err != nil {
		return 0, err
	}
	info := consumer.CachedInfo()
	return int(info.NumPending) + info.NumAckPending, nil
}

// seeOldest takes in the first entry of a queue.
func (o *Outbox) seeOldest(ctx context.Context, stats *Stats, kind, number string) error {
	first, err := o.store.earliest(ctx, o.store.subject(kind, number, "*"))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := o.store.load(ctx, lastToken(first.Subject))
	if err == nil && (stats.OldestQueued.IsZero() || r.Enqueued.Before(stats.OldestQueued)) {
		stats.OldestQueued = r.Enqueued.Time
	}
	return nil
}

// lastToken returns what stands after the last dot of a subject.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// page is how many messages are asked for at once where nothing is known of how many are
// wanted.
const page = 1000

func pageOf(limit int) int {
	if limit <= 0 || limit > page {
		return page
	}
	return limit
}

// each shows the last message of each subject that fits, after a sequence, until see
// reports false. It asks for some at first and then for as many as there can be.
func (s *store) each(ctx context.Context, subject string, after uint64, some int, see func(*jetstream.RawStreamMsg) bool) error {
	for {
		n := 0
		err := persist(ctx, func(ctx context.Context) error {
			return s.batch(ctx, subject, after, some, func(msg *jetstream.RawStreamMsg) (more bool) {
				after = msg.Sequence
				n++
				if more = see(msg); !more {
					n = 0
				}
				return more
			})
		})
		if err != nil || n < some {
			return err
		}
		some = page
	}
}

// batch shows some of the messages after a sequence whose subject fits, until see reports
// false.
func (s *store) batch(ctx context.Context, subject string, after uint64, some int, see func(*jetstream.RawStreamMsg) (more bool)) error {
	messages, err := jetstreamext.GetBatch(ctx, s.js, s.name, some, jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchSeq(after+1))
	if err != nil {
		return err
	}
	return read(messages, func(msg *jetstream.RawStreamMsg) (more bool, err error) { return see(msg), nil })
}

// eachLast shows the last message of each of some subjects, until see fails. It asks once,
// on a cluster a replica that may lag behind.
func (s *store) eachLast(ctx context.Context, subjects []string, see func(*jetstream.RawStreamMsg) error) error {
	messages, err := jetstreamext.GetLastMsgsFor(ctx, s.js, s.name, subjects)
	if err != nil {
		return err
	}
	return read(messages, func(msg *jetstream.RawStreamMsg) (more bool, err error) { return true, see(msg) })
}

// earliest returns the first message of the stream whose subject fits, [ErrNotFound] if
// there is none. Where many fit it is faster than each: JetStream goes through all of them
// if it is asked for one from the first message of the stream on, and not if it is asked
// from the second on.
func (s *store) earliest(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	first, err := s.first(ctx)
	if err != nil || server.SubjectMatchesFilter(first.Subject, subject) {
		return first, err
	}
	var found *jetstream.RawStreamMsg
	err = persist(ctx, func(ctx context.Context) (err error) {
		found, err = s.stream.GetMsg(ctx, first.Sequence+1, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return ErrNotFound
		}
		return err
	})
	return found, err
}

// first returns the first message of the stream, without a subject if it is gone by then,
// and ErrNotFound if there is none.
func (s *store) first(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	var found *jetstream.RawStreamMsg
	err := persist(ctx, func(ctx context.Context) error {
		info, err := s.stream.Info(ctx)
		if err != nil {
			return err
		}
		if info.State.Msgs == 0 {
			return ErrNotFound
		}
		found, err = s.stream.GetMsg(ctx, info.State.FirstSeq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			found, err = &jetstream.RawStreamMsg{Sequence: info.State.FirstSeq}, nil
		}
		return err
	})
	return found, err
}

// read shows the messages of an answer, of which there may be none, until see reports
// false or fails.
func read(messages iter.Seq2[*jetstream.RawStreamMsg, error], see func(*jetstream.RawStreamMsg) (more bool, err error)) error {
	for msg, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return err
		}
		if more, err := see(msg); err != nil || !more {
			return err
		}
	}
	return nil
}

// count returns how many messages there are on a subject, and the first.
func (s *store) count(ctx context.Context, subject string) (int, *jetstream.RawStreamMsg, error) {
	var first *jetstream.RawStreamMsg
	err := persist(ctx, func(ctx context.Context) error {
		return s.batch(ctx, subject, 0, 1, func(msg *jetstream.RawStreamMsg) (more bool) {
			first = msg
			return false
		})
	})
	if err != nil || first == nil {
		return 0, nil, err
	}
	pending, err := strconv.Atoi(first.Header.Get(headerPending))
	return pending + 1, first, err
}
