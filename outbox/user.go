package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// callUser calls a function of the user. If it panics, or does not return in time, callUser
// returns an error.
func callUser(ctx context.Context, logger *slog.Logger, name string, timeout time.Duration, do func(context.Context)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if thrown := recover(); thrown != nil {
				logger.Error("outbox: "+name+" panicked", panicOf(fmt.Sprint(thrown)), stackOf(debug.Stack()))
				done <- fmt.Errorf("outbox: %s panicked: %v", name, thrown)
			}
		}()
		do(ctx)
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it ends with its context
		return err
	case <-time.After(grace):
		return fmt.Errorf("outbox: %s has not returned after %v", name, timeout)
	}
}
