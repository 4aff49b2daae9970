package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// The messages of two phone numbers.
const (
	noisyURL = "https://graph.facebook.com/v25.0/1001/messages"
	quietURL = "https://graph.facebook.com/v25.0/1002/messages"
)

// numbers is an API of which phone numbers can fail alone, with 131016.
type numbers struct {
	api *graphtest.API

	mu    sync.Mutex
	until map[string]time.Time // a path fails until then
	calls map[string]int       // how many calls of it failed
}

func newNumbers() *numbers {
	n := &numbers{api: graphtest.New(), until: map[string]time.Time{}, calls: map[string]int{}}
	n.api.SetLatency(50 * time.Millisecond)
	return n
}

// fail has the number of a URL fail for a while.
func (n *numbers) fail(url string, length time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.until[url] = time.Now().Add(length)
}

func (n *numbers) RoundTrip(req *http.Request) (*http.Response, error) {
	url := req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	n.mu.Lock()
	fails := time.Now().Before(n.until[url])
	if fails {
		n.calls[url]++
	}
	n.mu.Unlock()
	if !fails {
		return n.api.RoundTrip(req)
	}
	time.Sleep(50 * time.Millisecond)
	req.Body.Close()
	return failedResponse(http.StatusBadRequest, string(graphtest.ErrorBody(graphretry.CodeServiceUnavailable))), nil
}

// outages are the outages that an observer has heard of, in a line each.
type outages struct {
	mu    sync.Mutex
	lines []string
	held  []int
}

func (o *outages) observe(_ context.Context, event graphretry.Event) {
	if event.Kind == graphretry.EventOutageBegan || event.Kind == graphretry.EventOutageEnded {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.lines = append(o.lines, fmt.Sprintf("%v %q", event.Kind, event.Path))
		if event.Kind == graphretry.EventOutageEnded {
			o.held = append(o.held, event.Held)
		}
	}
}

// sends sends a message in a goroutine each, so many a second.
func sends(t *testing.T, group *sync.WaitGroup, transport http.RoundTripper, url string, perSecond int, length time.Duration, took func(time.Duration)) {
	for range int(length.Seconds()) * perSecond {
		time.Sleep(time.Second / time.Duration(perSecond))
		group.Go(func() {
			began := time.Now()
			status, err := statusOf(t.Context(), transport, url)
			assert.NoError(t, err)
			assert.Equal(t, http.StatusOK, status)
			took(time.Since(began))
		})
	}
}

func TestNumberThatFailsDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, heard := newNumbers(), new(outages)
		transport := newTransport(t, api, graphretry.WithObserver(heard.observe))
		var group, senders sync.WaitGroup
		var mu sync.Mutex
		var longest time.Duration
		time.AfterFunc(10*time.Second, func() { api.fail(noisyURL, time.Minute) })
		senders.Go(func() {
			sends(t, &group, transport, noisyURL, 30, 80*time.Second, func(time.Duration) {})
		})
		senders.Go(func() {
			sends(t, &group, transport, quietURL, 5, 80*time.Second, func(took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, took)
			})
		})
		time.Sleep(40 * time.Second)
		host := transport.Hosts()[0]
		assert.Equal(t, graphretry.HostUp, host.State)
		assert.Zero(t, host.Waiting)
		require.Len(t, host.Paths, 1)
		path := host.Paths[0]
		assert.Equal(t, "/1001/messages", path.Path)
		assert.Equal(t, graphretry.HostDown, path.State)
		assert.Greater(t, path.Waiting, 500)
		assert.Equal(t, graphretry.CodeServiceUnavailable, path.Cause.Code)
		assert.Nil(t, path.Cause.Raw)
		assert.True(t, path.NextProbe.After(path.Since))
		senders.Wait()
		group.Wait()
		assert.LessOrEqual(t, longest, 100*time.Millisecond)
		assert.LessOrEqual(t, api.calls[noisyURL], 35)
		assert.Equal(t, []string{`outage began "/1001/messages"`, `outage ended "/1001/messages"`}, heard.lines)
		// Each call counts once: those that came while it was down, and some that failed before.
		assert.InDelta(t, 30*65, heard.held[0], 30*12)
		assert.Empty(t, transport.Hosts()[0].Paths)
	})
}

func TestCallOfAPathThatIsDownIsToldSo(t *testing.T) {
	for name, caller := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"it does not wait": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return graphretry.ContextWithOptions(ctx, graphretry.WithoutWaiting()), func() {}
		},
		"it cannot wait": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, heard := newNumbers(), new(outages)
				transport := newTransport(t, api, graphretry.WithOutageThreshold(3), graphretry.WithJitter(0), graphretry.WithObserver(heard.observe))
				api.fail(noisyURL, time.Hour)
				once := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting())
				for _, url := range []string{noisyURL, quietURL, noisyURL, noisyURL} {
					_, err := statusOf(once, transport, url)
					require.NoError(t, err)
				}
				assert.Equal(t, []string{`outage began "/1001/messages"`}, heard.lines)

				ctx, cancel := caller(t.Context())
				defer cancel()
				_, err := statusOf(ctx, transport, noisyURL)
				var refused *graphretry.WaitError
				require.ErrorAs(t, err, &refused)
				assert.ErrorIs(t, err, graphretry.ErrOutage)
				assert.Equal(t, "/1001/messages", refused.Path)
				assert.Equal(t, graphretry.CodeServiceUnavailable, refused.Graph.Code)
				assert.Equal(t, 5*time.Second, refused.Wait)
				assert.ErrorContains(t, err, "of /1001/messages")
				status, err := statusOf(ctx, transport, quietURL)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, status)
			})
		})
	}
}

// The call that shows that the fault is another path's is a success of its own.
func TestOutageThatTurnsOutToBeAPathsSaysWhatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newNumbers()
		transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(3))
		api.fail(noisyURL, time.Hour)
		once := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting())
		for _, url := range []string{noisyURL, noisyURL, noisyURL, quietURL} {
			_, err := statusOf(once, transport, url)
			require.NoError(t, err)
		}
		var heard []string
		for _, event := range events() {
			if event.Kind == graphretry.EventOutageBegan || event.Kind == graphretry.EventOutageEnded {
				heard = append(heard, fmt.Sprintf("%v %q %d", event.Kind, event.Path, event.Graph.Code))
			}
		}
		assert.Equal(t, []string{`outage began "" 131016`, `outage ended "" 131016`, `outage began "/1001/messages" 131016`}, heard)
	})
}

// One outage of a hundred numbers is one outage in the log.
func TestOutageOfAllNumbersIsOneOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, heard := newNumbers(), new(outages)
		api.api.DownAfter(10*time.Second, time.Minute, gateDown)
		transport := newTransport(t, api, graphretry.WithObserver(heard.observe))
		var group, senders sync.WaitGroup
		for number := range 100 {
			senders.Go(func() {
				time.Sleep(time.Duration(number) * 7 * time.Millisecond)
				sends(t, &group, transport, fmt.Sprintf("https://graph.facebook.com/v25.0/%d/messages", 2000+number), 1, 80*time.Second, func(time.Duration) {})
			})
		}
		senders.Wait()
		group.Wait()
		assert.Equal(t, []string{`outage began ""`, `outage ended ""`}, heard.lines)
		assert.LessOrEqual(t, api.api.Totals().WhileDown, 40)
	})
}

func TestLogNamesThePathThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		api := newNumbers()
		transport := newTransport(t, api, graphretry.WithOutageThreshold(2), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		token := "EAAG" + strings.Repeat("x", 60)
		url := "https://graph.facebook.com/v25.0/" + token + "/messages"
		api.fail(url, time.Hour)
		once := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting())
		for _, url := range []string{url, quietURL, url} {
			_, err := statusOf(once, transport, url)
			require.NoError(t, err)
		}
		_, err := statusOf(once, transport, url)
		require.ErrorIs(t, err, graphretry.ErrOutage)
		assert.Contains(t, log.String(), `"graphretry.outage.path":"/`)
		said := log.String() + err.Error() + fmt.Sprint(transport.Hosts())
		assert.NotContains(t, said, token)
		require.Len(t, transport.Hosts()[0].Paths, 1)
	})
}

// Meta's servers fail with 131000, too: that says neither that they are down nor that they
// are up.
func TestSomethingWentWrongSaysNothingOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		for range 20 {
			api.AnswerNext(1, gateDown)
			api.AnswerNext(1, graphtest.Answer{Code: 131000})
		}
		transport := newTransport(t, api, graphretry.WithOutageThreshold(3))
		for range 5 {
			_, err := statusOf(graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting()), transport, messagesURL)
			require.NoError(t, err)
		}
		assert.Equal(t, graphretry.HostDown, transport.Hosts()[0].State)
	})
}

func TestRefusedDialsBringTheHostDownWhereTheyAreRetried(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, retried := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			opts := []graphretry.Option{graphretry.WithOutageThreshold(3), graphretry.WithObserver(func(context.Context, graphretry.Event) {})}
			if retried {
				opts = append(opts, graphretry.WithNetworkRetries())
			}
			transport := newTransport(t, roundTripper(func(*http.Request) (*http.Response, error) { return nil, refused }), opts...)
			once := graphretry.ContextWithOptions(t.Context(), graphretry.WithoutWaiting())
			for range 3 {
				_, err := statusOf(once, transport, messagesURL)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
			}
			host := transport.Hosts()[0]
			_, err := statusOf(once, transport, messagesURL)
			if !retried {
				assert.Equal(t, graphretry.HostUp, host.State, "an observer changes nothing")
				assert.ErrorIs(t, err, syscall.ECONNREFUSED)
				return
			}
			assert.Equal(t, graphretry.HostDown, host.State)
			assert.Nil(t, host.Cause, "Meta has said nothing")
			assert.ErrorIs(t, err, graphretry.ErrOutage)
			assert.ErrorContains(t, err, "no connection")
			var said *graphretry.Error
			assert.False(t, errors.As(err, &said))
		})
	}
}
