package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pauseAll is the number that stands for all.
const pauseAll = "all"

// Pause has every machine send nothing more from a phone number, or with "" from any,
// until [Outbox.Resume]. What is under way comes to its end. Messages can be enqueued
// as before; one that grows too old meanwhile fails after Resume. It is noticed at once.
// Repeating it is safe. A pause that nobody has ended is forgotten after [WithRetention].
func (o *Outbox) Pause(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "pause", phoneNumberID, true)
}

// Resume ends a [Outbox.Pause] of the same phone number, or with "" that of all. A
// number that was paused by itself stays so. It is noticed at once. Repeating it is
// safe.
func (o *Outbox) Resume(ctx context.Context, phoneNumberID string) error {
	return o.setPause(ctx, "resume", phoneNumberID, false)
}

func (o *Outbox) setPause(ctx context.Context, verb, number string, paused bool) error {
	if number != "" && !phoneNumberIDPattern.MatchString(number) {
		return fmt.Errorf("outbox: cannot %s the phone number ID %q: want the digits of the id, or nothing for all", verb, number)
	}
	ctx, done, err := o.begin(ctx, callTimeout)
	if err != nil {
		return err
	}
	defer done()
	if number == "" {
		number = pauseAll
	}
	err = persist(ctx, func(ctx context.Context) error {
		_, err := o.store.write(ctx, put{subject: o.store.subject(kindPause, number), data: strconv.AppendBool(nil, paused)})
		return err
	})
	if err != nil {
		return fmt.Errorf("outbox: cannot %s: %w", verb, err)
	}
	return nil
}

// watch learns which phone numbers there are and which are paused, until ctx ends.
func (r *running) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.hear(ctx)
		if errors.Is(err, nats.ErrConnectionClosed) {
			r.fail(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			r.logger.Error("outbox: cannot hear which phone numbers there are", slog.Any("error", err))
			_ = pause(ctx, staleWait)
		}
	}
}

// hear is one watch, which ends with its connection. The loops of the lanes begin once
// all is known that was before.
func (r *running) hear(ctx context.Context) error {
	consumer, err := r.store.js.OrderedConsumer(ctx, r.name, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{r.store.subject(kindLane, "*"), r.store.subject(kindPause, "*")},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	paused, numbers := make(map[string]bool), make(map[string]bool)
	for left := info.NumPending + info.Delivered.Consumer; ; {
		if left == 0 {
			r.Outbox.lanes.setPaused(paused)
			for number := range numbers {
				r.addLane(ctx, number)
			}
		}
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		left = max(left, 1) - 1
		_, of, _ := strings.Cut(strings.TrimPrefix(msg.Subject(), r.name+"."), ".")
		switch strings.TrimPrefix(msg.Subject(), r.name+".") {
		case kindLane + "." + of:
			numbers[of] = true
		case kindPause + "." + of:
			paused[of] = string(msg.Data()) == "true"
		}
	}
}
