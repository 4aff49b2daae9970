package outbox

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// mostAhead is how many bytes of payload are read ahead.
const mostAhead = 16 << 20

// ahead is what was read for an entry before a worker was free for it. It may be old by
// then, as any reading may: who acts on it writes over its revision, or not at all.
type ahead struct {
	record  *stored
	payload *jetstream.RawStreamMsg
}

// readAhead reads the records and payloads of entries, all in one question. What it does
// not find is left to the worker.
func (o *Outbox) readAhead(ctx context.Context, entries []*delivery) {
	byKey := make(map[string]*delivery, len(entries))
	var subjects []string
	isRoom := o.ahead.Load() < mostAhead
	for _, d := range entries {
		byKey[d.key] = d
		subjects = append(subjects, o.store.subject(kindRecord, d.number, d.key))
		if isRoom {
			subjects = append(subjects, o.store.subject(kindPayload, d.number, d.key))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_ = o.store.eachLast(ctx, subjects, func(msg *jetstream.RawStreamMsg) error {
		tokens := strings.Split(msg.Subject, ".")
		d := byKey[tokens[len(tokens)-1]]
		switch {
		case d == nil || len(tokens) != 4:
		case tokens[1] == kindPayload:
			d.ahead.payload = msg
			o.ahead.Add(int64(len(msg.Data)))
		default:
			if found, err := o.store.parse(msg); err == nil {
				d.ahead.record = &found
			}
		}
		return nil
	})
}

// record returns the record of the message that an entry is for.
func (d *delivery) record(ctx context.Context, key string) (stored, error) {
	if d.ahead.record != nil && d.ahead.record.key == key {
		return *d.ahead.record, nil
	}
	return d.outbox.store.load(ctx, key)
}
