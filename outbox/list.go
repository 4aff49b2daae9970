package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/message"
	"github.com/graphretry/graphretry/outbox/internal/store"
)

// Filter selects messages. A message must match every field that is set. The zero Filter
// selects all messages.
type Filter struct {
	// States are the states that match; none means all.
	States []State
	// PhoneNumberID is the business's phone number.
	PhoneNumberID string
	// Label is the label of the messages: see [Label].
	Label string
	// Code is the code or the subcode of Meta's last error.
	Code graphretry.Code
	// OlderThan matches messages that were enqueued at least that long ago.
	OlderThan time.Duration
	// EnqueuedBefore matches messages that were enqueued before that time, by the database's
	// clock: see [Outbox.Now].
	EnqueuedBefore time.Time
	// ChangedAfter matches messages that have changed after that time, by the database's clock,
	// or may have changed: those that are queued and due, and those that a Run has. An older
	// copy of a database cannot show whether these were sent since. It is for [Outbox.ParkAll]
	// after a restore.
	ChangedAfter time.Time
	// After matches messages that were enqueued after the message with this id. For the next
	// page, set it to the ID of the last message of this page.
	After string
	// Limit is how many messages are selected at most, the first ones; 0 means all.
	Limit int
}

// List returns the messages that match a filter, sorted by the time of enqueueing and then by
// id. It retries for as long as ctx lasts, or for 5 minutes. The error wraps [ErrInvalid] if
// the filter is wrong, and [ErrNotFound] if the message of Filter.After does not exist any
// more.
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
	meant, err := filter.meant()
	if err != nil {
		return nil, err
	}
	stored, err := o.store.List(ctx, meant)
	found := make([]Status, 0, len(stored))
	for i := range stored {
		found = append(found, statusOf(&stored[i]))
	}
	return found, filter.explain(err)
}

// Count returns the number of messages that match a filter, all at one moment. With
// Filter.Limit it stops counting there, so that it takes a bounded time if most messages match.
// It retries for as long as ctx lasts, or for 5 minutes. Its errors are those of [Outbox.List].
func (o *Outbox) Count(ctx context.Context, filter Filter) (int, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return 0, err
	}
	defer done()
	meant, err := filter.meant()
	if err != nil {
		return 0, fmt.Errorf("outbox: cannot count the messages: %w", err)
	}
	n, err := o.store.Count(ctx, meant)
	if err != nil {
		return 0, fmt.Errorf("outbox: cannot count the messages: %w", filter.explain(err))
	}
	return n, nil
}

// meant returns the filter of the store. The error wraps ErrInvalid.
func (f *Filter) meant() (store.Filter, error) {
	var errs []error
	if f.Limit < 0 {
		errs = append(errs, fmt.Errorf("Filter.Limit is %d: want 0 for all, or more", f.Limit))
	}
	if f.PhoneNumberID != "" && !message.IsNumber(f.PhoneNumberID) {
		errs = append(errs, fmt.Errorf("Filter.PhoneNumberID is %q: want the digits of the id", f.PhoneNumberID))
	}
	if err := message.CheckLabel(f.Label); err != nil {
		errs = append(errs, fmt.Errorf("Filter.Label: %w", err))
	}
	if f.After != "" {
		if err := message.CheckID(f.After); err != nil {
			errs = append(errs, fmt.Errorf("Filter.After: %w", err))
		}
	}
	for _, state := range f.States {
		switch state {
		case StateQueued, StateSending, StateSent, StateFailed, StateUnknown:
		default:
			errs = append(errs, fmt.Errorf("Filter.States has %q: want queued, sending, sent, failed or unknown", string(state)))
		}
	}
	states := slices.Compact(slices.Sorted(slices.Values(f.States)))
	return store.Filter{States: states, Number: f.PhoneNumberID, Label: f.Label, Code: int(f.Code), OlderThan: f.OlderThan,
		EnqueuedBefore: f.EnqueuedBefore, ChangedAfter: f.ChangedAfter, After: f.After, Limit: f.Limit}, message.AsInvalid(errors.Join(errs...))
}

// explain names the message that was not found.
func (f *Filter) explain(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("Filter.After is %q: %w", f.After, err)
	}
	return err
}

// Status returns what the outbox knows about the message with that id. The error wraps
// [ErrNotFound] if no such message was enqueued or if it is older than the retention, and
// [ErrClosed] after Close.
func (o *Outbox) Status(ctx context.Context, id string) (Status, error) {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return Status{}, err
	}
	defer done()
	current, err := o.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	return statusOf(&current), nil
}

// Payload returns the payload of the message with that id, as it is sent. It is empty if the
// payload is not kept any more: see [WithKeepPayload]. The error wraps [ErrNotFound] if there
// is no such message, and [ErrClosed] after Close.
func (o *Outbox) Payload(ctx context.Context, id string) ([]byte, error) {
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := message.CheckID(id); err != nil {
		return nil, message.AsInvalid(err)
	}
	payload, err := o.store.Payload(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot read the payload of message %q: %w", id, err)
	}
	return []byte(payload), nil
}

// Unknown returns the unknown messages, those that have been unknown longest first. The time
// that it takes grows with their number, and not with the number of all messages.
//
// If a process dies, the messages that it was sending are listed when another Run has noticed,
// within 40 s.
func (o *Outbox) Unknown(ctx context.Context) ([]Status, error) {
	ctx, done, err := o.begin(ctx, listTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	parked, err := o.list(ctx, Filter{States: []State{StateUnknown}})
	if err != nil {
		return nil, fmt.Errorf("outbox: cannot list the unknown messages: %w", err)
	}
	slices.SortFunc(parked, func(a, b Status) int {
		return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.ID, b.ID))
	})
	return parked, nil
}

// find returns the message with that id.
func (o *Outbox) find(ctx context.Context, id string) (store.Stored, error) {
	if err := message.CheckID(id); err != nil {
		return store.Stored{}, message.AsInvalid(err)
	}
	current, err := o.store.Load(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return current, fmt.Errorf("outbox: message %q: %w", id, err)
	case err != nil:
		return current, fmt.Errorf("outbox: cannot look up message %q: %w", id, err)
	}
	return current, nil
}
