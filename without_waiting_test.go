package graphretry_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

func TestCallWithoutWaitingMakesOneAttempt(t *testing.T) {
	for name, test := range map[string]struct {
		answer reply
		opts   []graphretry.Option
		kind   graphretry.EventKind
		reason graphretry.Reason
	}{
		"what would be retried":    {down, nil, graphretry.EventGaveUp, graphretry.ReasonWithoutWaiting},
		"131000":                   {fails(131000), nil, graphretry.EventGaveUp, graphretry.ReasonWithoutWaiting},
		"a limit, by option":       {fails(130429), []graphretry.Option{graphretry.WithThrottleRetries()}, graphretry.EventGaveUp, graphretry.ReasonWithoutWaiting},
		"a limit":                  {fails(130429), nil, graphretry.EventNotRetried, graphretry.ReasonNotRetried},
		"what is never retried":    {fails(131009), nil, graphretry.EventNotRetried, graphretry.ReasonNever},
		"a network retry's":        {reply{err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, []graphretry.Option{graphretry.WithNetworkRetries()}, graphretry.EventGaveUp, graphretry.ReasonWithoutWaiting},
		"a schedule that has none": {down, []graphretry.Option{graphretry.WithBackOff(stopAtOnce)}, graphretry.EventGaveUp, graphretry.ReasonRetriesExhausted},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			w := &witness{next: script(test.answer)}
			transport, events := eventsOf(t, w, append(test.opts, graphretry.WithoutWaiting())...)
			resp, err := transport.RoundTrip(message(t, t.Context()))
			if test.answer.err == nil {
				require.NoError(t, err)
				assert.Equal(t, test.answer.status, resp.StatusCode, name)
				resp.Body.Close()
			} else {
				assert.Equal(t, test.answer.err, err, name)
			}
			assert.Len(t, w.seen(), 1, name)
			assert.Zero(t, time.Since(began), name)
			require.Len(t, events(), 1, name)
			assert.Equal(t, test.kind, events()[0].Kind, name)
			assert.Equal(t, test.reason, events()[0].Reason, name)
		})
	}
}

func TestCallWithoutWaitingIsRefusedInAnOutageButForTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		api := graphtest.New()
		api.DownAfter(0, time.Minute, gateDown)
		transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(2), graphretry.WithoutWaiting())
		for range 2 {
			assert.Equal(t, http.StatusServiceUnavailable, sentStatus(t, transport, t.Context()))
		}
		// Every second somebody comes: at 5, 15, 35 and 55 s a probe is due, and the last
		// one before the end is sent at 55 s.
		for range 54 {
			time.Sleep(time.Second)
			_, err := statusOf(t.Context(), transport, messagesURL)
			var wait *graphretry.WaitError
			if errors.As(err, &wait) {
				assert.ErrorIs(t, err, graphretry.ErrOutage)
				assert.Positive(t, wait.Wait)
				assert.LessOrEqual(t, wait.Wait, 20*time.Second)
				assert.Zero(t, wait.Attempts)
				assert.Equal(t, graphretry.CodeAPIService, wait.Graph.Code)
				assert.True(t, graphretry.NeverSent(err))
				assert.False(t, wait.Timeout())
			}
		}
		var at []float64
		for _, call := range api.Calls() {
			at = append(at, call.Time.Sub(began).Seconds())
		}
		assert.Equal(t, []float64{0, 0, 5, 15, 35}, at)

		// The probe that finds it up ends the outage, since nobody waits.
		time.Sleep(10 * time.Second)
		assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context()))
		assert.Equal(t, graphretry.HostUp, transport.Hosts()[0].State)
		assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context()))

		kinds := map[graphretry.EventKind]int{}
		for _, event := range events() {
			kinds[event.Kind]++
			switch event.Kind {
			case graphretry.EventGaveUp:
				assert.Equal(t, graphretry.ReasonWithoutWaiting, event.Reason)
			case graphretry.EventOutageEnded:
				assert.Zero(t, event.Held, "nobody was held")
			}
		}
		assert.Equal(t, map[graphretry.EventKind]int{
			graphretry.EventGaveUp: 56, graphretry.EventOutageBegan: 1, graphretry.EventOutageEnded: 1,
		}, kinds)
	})
}

// Beside calls that wait, one that does not takes neither their probe nor their release.
func TestCallWithoutWaitingStandsBehindThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := transportToAHostThatIsDown(t, script(down, down, down, success))
		atOnce := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting())
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() { assert.Equal(t, http.StatusOK, sentStatus(t, transport, t.Context())) })
		}
		time.Sleep(time.Second)
		_, err := statusOf(atOnce, transport, messagesURL)
		var wait *graphretry.WaitError
		require.ErrorAs(t, err, &wait)
		assert.Equal(t, 4*time.Second, wait.Wait, "until the probe")
		assert.Equal(t, 5, transport.Hosts()[0].Waiting)

		// The probe of one who waits was answered, and the rest go out one after the other.
		time.Sleep(4*time.Second + time.Millisecond)
		assert.Equal(t, graphretry.HostRecovering, transport.Hosts()[0].State)
		_, err = statusOf(atOnce, transport, messagesURL)
		require.ErrorAs(t, err, &wait)
		assert.ErrorIs(t, err, graphretry.ErrOutage)
		assert.Positive(t, wait.Wait)
		assert.LessOrEqual(t, wait.Wait, time.Second)
		group.Wait()
		assert.Equal(t, http.StatusOK, sentStatus(t, transport, atOnce), "nobody waits any more")
	})
}

func TestNoRetriesAtAllTakesPrecedenceOverWithoutWaiting(t *testing.T) {
	transport, events := eventsOf(t, script(down), graphretry.WithoutWaiting(), graphretry.WithMaxRetries(0), graphretry.WithOutageThreshold(1))
	for range 3 {
		assert.Equal(t, http.StatusServiceUnavailable, sentStatus(t, transport, t.Context()))
	}
	assert.Empty(t, events())
	assert.Equal(t, graphretry.HostUp, transport.Hosts()[0].State)
}

func TestLogOfACallWithoutWaitingIsAWarning(t *testing.T) {
	var log strings.Builder
	transport := newTransport(t, script(down), graphretry.WithoutWaiting(), graphretry.WithOutageThreshold(1),
		graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	sentStatus(t, transport, t.Context())
	_, err := statusOf(t.Context(), transport, messagesURL)
	require.ErrorIs(t, err, graphretry.ErrOutage)
	var levels []any
	for _, record := range records(t, strings.NewReader(log.String())) {
		if record["msg"] == "graphretry: gave up" {
			levels = append(levels, record["level"])
			assert.Equal(t, "without waiting", record["graphretry.reason"])
		}
	}
	assert.Equal(t, []any{"WARN", "WARN"}, levels)
}

// A dial that is cut off is told by net/http with the deadline's own error.
func TestAttemptThatGotNoConnectionIsKnownAsNeverSent(t *testing.T) {
	for name, opts := range map[string][]graphretry.Option{
		"attempt timeout": {graphretry.WithAttemptTimeout(time.Hour)},
		"without waiting": {graphretry.WithoutWaiting()},
		"observer":        {graphretry.WithObserver(func(context.Context, graphretry.Event) {})},
		"network retries": {graphretry.WithNetworkRetries()},
		"not watched":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			dialing := make(chan struct{})
			next := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				close(dialing)
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			defer next.CloseIdleConnections()
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-dialing
				cancel(context.DeadlineExceeded)
			}()
			client := &http.Client{Transport: newTransport(t, next, opts...)}
			_, err := client.Do(message(t, ctx))
			require.Error(t, err)
			plain, plainErr := (&http.Client{Transport: next}).Do(message(t, ctx))
			require.Nil(t, plain)
			assert.Equal(t, plainErr.Error(), err.Error())
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, len(opts) > 0, graphretry.NeverSent(err))
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			assert.True(t, timeout.Timeout())
		})
	}
}

func TestAttemptTimeoutWhileDialingIsKnownAsNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		defer next.CloseIdleConnections()
		_, err := newTransport(t, next, graphretry.WithAttemptTimeout(time.Second)).RoundTrip(message(t, t.Context()))
		assert.EqualError(t, err, "graphretry: attempt timed out after 1s")
		assert.True(t, graphretry.NeverSent(err))
		timeout, ok := err.(interface{ Timeout() bool })
		require.True(t, ok)
		assert.True(t, timeout.Timeout())
	})
}

func TestWaitErrorWithoutAnAttemptIsNeverSent(t *testing.T) {
	assert.True(t, graphretry.NeverSent(&graphretry.WaitError{Err: context.Canceled}))
	assert.False(t, graphretry.NeverSent(&graphretry.WaitError{Err: context.Canceled, Attempts: 1}))
	assert.True(t, graphretry.NeverSent(graphretry.ErrOutage))
	assert.False(t, graphretry.NeverSent(nil))
}

func TestErrorOfAnOutageSaysWhenTheNextProbeIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := transportToAHostThatIsDown(t, script(down))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := statusOf(ctx, transport, messagesURL)
		var wait *graphretry.WaitError
		require.ErrorAs(t, err, &wait)
		assert.Equal(t, 5*time.Second, wait.Wait)

		// A wait that is none of an outage has no next probe.
		ctx, cancelEarly := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancelEarly)
		_, err = statusOf(ctx, newTransport(t, script(down)), messagesURL)
		require.ErrorAs(t, err, &wait)
		assert.Zero(t, wait.Wait)
	})
}
