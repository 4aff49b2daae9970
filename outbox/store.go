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
)

var (
	// errConflict: somebody else has changed the record meanwhile.
	errConflict = errors.New("outbox: the record was changed by somebody else")
	// errUnreadable: a record or a message in the queue is not one of ours.
	errUnreadable = errors.New("outbox: not in a form that this version reads")
)

// store is the outbox's part of JetStream: the queue, and the bucket of records.
type store struct {
	js      jetstream.JetStream
	name    string
	bucket  jetstream.KeyValue
	backing jetstream.Stream // the bucket's stream
}

// stored is a record as it was read or written.
type stored struct {
	record
	key      string
	revision uint64
}

// Records and flags share the bucket. A flag is set before a message is parked
// or put back into the queue, so that those messages, and what was begun and
// not ended, can be found without reading every record.
const (
	recordPrefix = "message."
	flagPrefix   = "flag."
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
		errConflict, errUnreadable, ErrNotFound, nats.ErrMaxPayload, nats.ErrConnectionClosed,
		jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, jetstream.ErrJetStreamNotEnabled,
		jetstream.ErrJetStreamNotEnabledForAccount,
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

// load reads a record, [ErrNotFound] if there is none. On a cluster a replica
// may answer that lags behind; whoever acts on what it says writes it with the
// revision, which fails if it was old.
func (s *store) load(ctx context.Context, key string) (stored, error) {
	var found stored
	err := persist(ctx, func(ctx context.Context) error {
		entry, err := s.bucket.Get(ctx, recordPrefix+key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		found = stored{key: key, revision: entry.Revision()}
		if err := json.Unmarshal(entry.Value(), &found.record); err != nil || keyOf(found.ID) != key || !found.sound() {
			return fmt.Errorf("%w: record %s", errUnreadable, key)
		}
		return nil
	})
	return found, err
}

// reload reads a record again after a conflict, until it is another one.
func (s *store) reload(ctx context.Context, old stored) (stored, error) {
	for {
		current, err := s.load(ctx, old.key)
		// Not found: a replica that has not even heard of its creation.
		if err == nil && current.revision > old.revision || err != nil && !errors.Is(err, ErrNotFound) {
			return current, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return stored{}, err
		}
	}
}

// save writes a record over the one that it was made from; with the revision 0
// over none. If somebody else was faster it fails with errConflict. An answer
// that is lost is no failure: the write is found, or made again.
func (s *store) save(ctx context.Context, next stored) (stored, error) {
	next.Write = rand.Text()
	value, err := json.Marshal(next.record)
	if err != nil {
		return stored{}, fmt.Errorf("outbox: cannot encode the record: %w", err)
	}
	before := next.revision
	err = persist(ctx, func(ctx context.Context) error {
		revision, err := s.write(ctx, recordPrefix+next.key, value, before)
		if errors.Is(err, errConflict) {
			current, err := s.reload(ctx, stored{key: next.key, revision: before})
			if err != nil {
				return err
			}
			if current.Write != next.Write {
				return errConflict
			}
			revision = current.revision
		} else if err != nil {
			return err
		}
		next.revision = revision
		return nil
	})
	return next, err
}

// write is one compare-and-set.
func (s *store) write(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if revision == 0 {
		revision, err := s.bucket.Create(ctx, key, value)
		if errors.Is(err, jetstream.ErrKeyExists) {
			return 0, errConflict
		}
		return revision, err
	}
	revision, err := s.bucket.Update(ctx, key, value, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, errConflict
	}
	return revision, err
}

// fits reports whether a new record can be written, now and after it has grown.
func (s *store) fits(r record) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("outbox: cannot encode the record: %w", err)
	}
	if most := s.js.Conn().MaxPayload(); most > 0 && int64(len(value)) > most-headroom {
		return fmt.Errorf("the payload makes a record of %d bytes, and the server takes %d: want a shorter payload or a higher max_payload there", len(value), most-headroom)
	}
	return nil
}

// publish puts a message into the queue. The same generation of the same message
// is put there once, within JetStream's duplicate window; beyond it, workers
// tell the copies apart.
func (s *store) publish(ctx context.Context, q queued) error {
	value, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("outbox: cannot encode the message: %w", err)
	}
	id := keyOf(q.ID) + "." + strconv.Itoa(q.Generation)
	return persist(ctx, func(ctx context.Context) error {
		ack, err := s.js.Publish(ctx, s.subject(q.Urgent), value, jetstream.WithMsgID(id))
		if err != nil || !ack.Duplicate {
			return err
		}
		// JetStream knows the id of a message that it may hold no more: the stream
		// was purged, or has discarded it.
		queue, err := s.js.Stream(ctx, s.name)
		if err != nil {
			return err
		}
		if _, err = queue.GetMsg(ctx, ack.Sequence); errors.Is(err, jetstream.ErrMsgNotFound) {
			id += "." + rand.Text()
			_, err = s.js.Publish(ctx, s.subject(q.Urgent), value, jetstream.WithMsgID(id))
		}
		return err
	})
}

// flag is a message that is parked, or was being put back into the queue.
type flag struct {
	key      string
	revision uint64
	set      time.Time
}

func (s *store) setFlag(ctx context.Context, key string) error {
	return persist(ctx, func(ctx context.Context) error {
		_, err := s.bucket.Put(ctx, flagPrefix+key, nil)
		return err
	})
}

// removeFlag removes this flag, and not one that was set after it.
func (s *store) removeFlag(ctx context.Context, f flag) error {
	return persist(ctx, func(ctx context.Context) error {
		// Not through the bucket, which would leave a marker behind.
		subject := "$KV." + s.bucket.Bucket() + "." + flagPrefix + f.key
		return s.backing.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(f.revision+1))
	})
}

func (s *store) flags(ctx context.Context) ([]flag, error) {
	watcher, err := s.bucket.Watch(ctx, flagPrefix+"*", jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return nil, err
	}
	defer watcher.Stop()
	var flags []flag
	for {
		select {
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return nil, errors.New("outbox: the listing broke off")
			case entry == nil:
				return flags, nil
			}
			flags = append(flags, flag{strings.TrimPrefix(entry.Key(), flagPrefix), entry.Revision(), entry.Created()})
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// subject returns the subject of the queue's messages: urgent ones have their own,
// and workers of their own.
func (s *store) subject(urgent bool) string {
	if urgent {
		return s.name + ".urgent"
	}
	return s.name + ".messages"
}
