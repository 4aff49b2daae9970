package main

import (
	"context"
	"errors"

	"github.com/cenkalti/backoff/v4"
	"github.com/graphretry/graphretry"
)

// sendWithPlainBackoff is what a program without graphretry often does: it puts a
// loop around each call. The codes that are retried and the waits are those of
// graphretry: 5 s to 7.5 s, twice as long and so on, where the interval is 5 s. It has
// no queue: no call knows of the others.
func sendWithPlainBackoff(ctx context.Context, s settings, send func() error) error {
	schedule := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(s.interval+s.interval/4),
		backoff.WithRandomizationFactor(1.0/5),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(maxInterval),
		backoff.WithMaxElapsedTime(maxElapsedTime),
	)
	return backoff.Retry(func() error {
		err := send()
		var refused *refusal
		if errors.As(err, &refused) && (refused.code == graphretry.CodeAPIService || refused.code == graphretry.CodeServiceUnavailable) {
			return err
		}
		if err != nil {
			return backoff.Permanent(err)
		}
		return nil
	}, backoff.WithContext(schedule, ctx))
}
