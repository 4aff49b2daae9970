package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pausePrefix begins the key of each phone number that is paused, and pauseAll is the
// number that stands for all.
const (
	pausePrefix = "pause."
	pauseAll    = "all"
)

// pausedWait is for how long a message of a number that is paused goes back to the
// queue, and so how long a Resume can take to be noticed.
const pausedWait = 5 * time.Second

// Pause has every machine send nothing more from a phone number, or with "" from any,
// until [Outbox.Resume]. What is under way comes to its end. Messages can be enqueued
// as before, and grow too old as before. It is noticed at once. Repeating it is safe.
// A pause that nobody has ended is forgotten after [WithRetention].
func (o *Outbox) Pause(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "pause", phoneNumberID, func(ctx context.Context, key string) error {
		_, err := o.store.bucket.Put(ctx, key, nil)
		return err
	})
}

// Resume ends a [Outbox.Pause] of the same phone number, or with "" that of all. A
// number that was paused by itself stays so. It is noticed within 5 s. Repeating it is
// safe.
func (o *Outbox) Resume(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "resume", phoneNumberID, func(ctx context.Context, key string) error {
		return o.store.bucket.Purge(ctx, key)
	})
}

func (o *Outbox) setPause(ctx context.Context, verb, number string, set func(context.Context, string) error) error {
	if number != "" && !phoneNumberIDPattern.MatchString(number) {
		return fmt.Errorf("outbox: cannot %s the phone number ID %q: want the digits of the id, or nothing for all", verb, number)
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	key := pausePrefix + pauseAll
	if number != "" {
		key = pausePrefix + number
	}
	if err := persist(ctx, func(ctx context.Context) error { return set(ctx, key) }); err != nil {
		return fmt.Errorf("outbox: cannot %s: %w", verb, err)
	}
	return nil
}

// watchPauses tells the lanes which numbers are paused, until ctx ends. It calls known
// when it has heard of all that were before, and fail if it never will.
func (o *Outbox) watchPauses(ctx context.Context, fail context.CancelCauseFunc, known func()) {
	for ctx.Err() == nil {
		err := o.hearPauses(ctx, known)
		if errors.Is(err, nats.ErrConnectionClosed) {
			fail(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			o.logger.Error("outbox: cannot hear which phone numbers are paused", slog.Any("error", err))
			_ = pause(ctx, staleWait)
		}
	}
}

// hearPauses is one watch, which ends with its connection.
func (o *Outbox) hearPauses(ctx context.Context, known func()) error {
	watcher, err := o.store.bucket.Watch(ctx, pausePrefix+"*", jetstream.MetaOnly())
	if err != nil {
		return err
	}
	defer watcher.Stop()
	paused, complete := make(map[string]bool), false
	for {
		select {
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("outbox: the watch broke off")
			case entry == nil:
				complete = true
			case entry.Operation() == jetstream.KeyValuePut:
				paused[strings.TrimPrefix(entry.Key(), pausePrefix)] = true
			default:
				delete(paused, strings.TrimPrefix(entry.Key(), pausePrefix))
			}
			if complete {
				o.lanes.setPaused(paused)
				known()
			}
		case <-ctx.Done():
			return nil
		}
	}
}
