package outbox

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

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
