package outbox_test

import (
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

var speed = flag.Bool("speed", false, "measure with as many messages as the targets are about, and judge them")

// measured is how many messages a figure is taken of.
func measured(full int) int {
	if *speed {
		return full
	}
	return full / 100
}

// TestSpeed measures the outbox, in shares of the fsyncs that this disk does at the same
// time where a disk decides.
func TestSpeed(t *testing.T) {
	judge := func(ok bool, format string, args ...any) {
		t.Helper()
		t.Logf(format, args...)
		if *speed {
			assert.True(t, ok, fmt.Sprintf(format, args...))
		}
	}
	const workers, latency = 64, 50 * time.Millisecond

	for _, enqueueing := range []struct{ callers, batch, messages int }{{1, 100, 50_000}, {8, 100, 50_000}, {64, 1, 10_000}} {
		t.Run(fmt.Sprintf("EnqueueAll, callers: %d, batches of %d", enqueueing.callers, enqueueing.batch), func(t *testing.T) {
			o, dir := openAt(t, true, nil)
			syncs := syncsPerSecond(t, dir)
			n := measured(enqueueing.messages) / enqueueing.callers
			began := time.Now()
			var all sync.WaitGroup
			for caller := range enqueueing.callers {
				all.Go(func() { enqueueAll(t, o, fmt.Sprint(caller), n, enqueueing.batch) })
			}
			all.Wait()
			perSecond := float64(n*enqueueing.callers) / time.Since(began).Seconds()
			syncs = (syncs + syncsPerSecond(t, dir)) / 2
			judge(enqueueing.batch == 1 || perSecond >= 2*syncs, "EnqueueAll, %d callers, batches of %d, each on the disk: %.0f messages a second, %.2f of %.0f fsyncs; want 2 in batches of 100",
				enqueueing.callers, enqueueing.batch, perSecond, perSecond/syncs, syncs)
		})
	}

	for _, synced := range []bool{false, true} {
		t.Run(fmt.Sprint("Run, synced ", synced), func(t *testing.T) {
			o, dir := openAt(t, synced, slow(latency), outbox.WithWorkers(workers), outbox.WithRate(1e6))
			n := measured(20_000)
			enqueueAll(t, o, "m", n, 200)
			syncs := syncsPerSecond(t, dir)
			perSecond := drain(t, o, n)
			if synced {
				judge(perSecond >= 0.25*syncs || perSecond >= 0.9*workers/latency.Seconds(),
					"Run, %d workers, API of %v, each write on the disk: %.0f messages a second, %.2f of %.0f fsyncs; want 0.25, or 0.9 of what the workers can do", workers, latency, perSecond, perSecond/syncs, syncs)
				return
			}
			ideal := workers / latency.Seconds()
			judge(perSecond >= 0.9*ideal, "Run, %d workers, API of %v: %.0f messages a second, %.2f of what the workers can do; want 0.9", workers, latency, perSecond, perSecond/ideal)
		})
	}

	t.Run("100,000 messages", func(t *testing.T) {
		n := measured(100_000)
		node := start(t, "server", "OUTBOX_TEST_DIR="+t.TempDir())
		o := openURL(t, node.url(t), slow(0), outbox.WithWorkers(workers), outbox.WithRate(1e6))
		enqueueAll(t, o, "m", n, 240)

		fastest := func(do func()) time.Duration {
			best := time.Hour
			for range 3 {
				began := time.Now()
				do()
				best = min(best, time.Since(began))
			}
			return best
		}
		look := func(what string) {
			stats := fastest(func() {
				_, err := o.Stats(t.Context())
				require.NoError(t, err)
			})
			list := fastest(func() {
				found, err := o.List(t.Context(), outbox.Filter{Limit: 100})
				require.NoError(t, err)
				assert.Len(t, found, 100)
			})
			judge(stats <= 50*time.Millisecond && list <= 100*time.Millisecond, "%d %s: Stats %v, want 50ms; first page of List %v, want 100ms", n, what, stats, list)
		}
		look("queued")

		campaign := openURL(t, node.url(t), slow(0))
		stop := run(t, campaign)
		began := time.Now()
		require.NoError(t, o.Enqueue(t.Context(), "urgent", phoneNumberID, payload("4711"), outbox.Urgent()))
		for {
			status, err := o.Status(t.Context(), "urgent")
			require.NoError(t, err)
			if status.State == outbox.StateSent {
				break
			}
			time.Sleep(time.Millisecond)
		}
		overtook := time.Since(began)
		stop()
		judge(overtook <= time.Second, "an urgent message overtakes %d of its number in %v; want 1s", n, overtook)

		var before, most uint64
		before = inUse()
		done := make(chan struct{})
		var watching sync.WaitGroup
		watching.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(200 * time.Millisecond):
					most = max(most, inUse())
				}
			}
		})
		perSecond := drain(t, o, n+1)
		close(done)
		watching.Wait()
		grown := max(most, before) - before
		judge(grown <= 100<<20, "%d messages: %.0f a second, %d MiB held, want 100", n, perSecond, grown>>20)
		look("sent")
	})

	for _, machines := range []int{1, 3} {
		t.Run(fmt.Sprintf("a limit of 80 a second, machines: %d", machines), func(t *testing.T) {
			const limit = 80
			api := graphtest.New()
			api.SetLimit(limit, graphtest.Answer{Code: graphretry.CodeRateLimitHit})
			node := start(t, "server", "OUTBOX_TEST_DIR="+t.TempDir())
			var outboxes []*outbox.Outbox
			for range machines {
				outboxes = append(outboxes, openURL(t, node.url(t), api))
			}
			n := measured(1500)
			enqueueAll(t, outboxes[0], "m", n, 240)
			for _, o := range outboxes[1:] {
				run(t, o)
			}
			took := float64(n) / drain(t, outboxes[0], n)
			totals, ideal := api.Totals(), float64(n)/limit
			refused := float64(totals.Calls-totals.Accepted) / float64(totals.Calls)
			judge(took <= 1.2*ideal && refused <= 0.02, "%d messages over a limit of %d a second, %d machines: %.2f of the ideal time, %.1f %% refused; want 1.2 and 2 %%",
				n, limit, machines, took/ideal, 100*refused)
		})
	}

	t.Run("disk", func(t *testing.T) {
		api := graphtest.New()
		o, dir := openAt(t, false, api, outbox.WithWorkers(workers), outbox.WithRate(1e6))
		n := measured(20_000)
		enqueueAll(t, o, "m", n, 240)
		drain(t, o, n)
		for _, m := range api.Accepted() {
			require.NoError(t, o.HandleWebhook(t.Context(), graphtest.StatusWebhook(m, "delivered")))
		}
		var perMessage float64
		for range 30 {
			perMessage = float64(size(t, dir)) / float64(n)
			if perMessage <= 400 {
				break
			}
			if !*speed {
				break
			}
			time.Sleep(time.Second) // the server frees what is of no more use in its own time
		}
		judge(perMessage <= 400, "disk after delivery: %.0f bytes a message, want 400", perMessage)
	})
}

// openAt opens an outbox: synced in [outbox.Embedded], which has each write on the disk,
// and otherwise on a server of its own behind a socket.
func openAt(t *testing.T, synced bool, next http.RoundTripper, opts ...outbox.Option) (*outbox.Outbox, string) {
	t.Helper()
	dir := t.TempDir()
	if synced {
		s, err := outbox.Embedded(dir)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		return open(t, s.JetStream(), next, opts...), dir
	}
	// Each SyncInterval it frees the disk of what is of no more use, by default every 2 minutes.
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, SyncInterval: 5 * time.Second, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return openURL(t, s.ClientURL(), next, opts...), dir
}

// openURL opens an outbox on a server that runs.
func openURL(t *testing.T, url string, next http.RoundTripper, opts ...outbox.Option) *outbox.Outbox {
	t.Helper()
	connection, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	return open(t, js, next, opts...)
}

func open(t *testing.T, js jetstream.JetStream, next http.RoundTripper, opts ...outbox.Option) *outbox.Outbox {
	t.Helper()
	o, err := outbox.Open(t.Context(), js, next, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.Close()) })
	return o
}

// slow is an API that takes every message, after a while.
func slow(latency time.Duration) http.RoundTripper {
	var ids atomic.Int64
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		req.Body.Close()
		if latency > 0 {
			time.Sleep(latency)
		}
		body := fmt.Sprintf(`{"messaging_product":"whatsapp","messages":[{"id":"wamid.HBgLMTU1NTAwMDExMTEVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3%08d"}]}`, ids.Add(1))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: newBody(body)}, nil
	})
}

// enqueueAll enqueues messages of one number, and returns how many a second.
func enqueueAll(t *testing.T, o *outbox.Outbox, prefix string, n, batch int) float64 {
	t.Helper()
	messages := make([]outbox.Message, n)
	for i := range messages {
		id := fmt.Sprintf("%s-%d", prefix, i)
		messages[i] = outbox.Message{ID: id, PhoneNumberID: phoneNumberID, Payload: payload(strings.Repeat("x", 100))}
	}
	began := time.Now()
	for len(messages) > 0 {
		next := messages[:min(batch, len(messages))]
		if !assert.NoError(t, o.EnqueueAll(t.Context(), next)) {
			break
		}
		messages = messages[len(next):]
	}
	return float64(n) / time.Since(began).Seconds()
}

// drain sends all, and returns how many a second.
func drain(t *testing.T, o *outbox.Outbox, n int) float64 {
	t.Helper()
	began := time.Now()
	stop := run(t, o)
	defer stop()
	for {
		stats, err := o.Stats(t.Context())
		require.NoError(t, err)
		if stats.States[outbox.StateSent] == n {
			return float64(n) / time.Since(began).Seconds()
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// syncsPerSecond is how many small writes the disk confirms one after the other.
func syncsPerSecond(t *testing.T, dir string) float64 {
	t.Helper()
	file, err := os.CreateTemp(dir, "fsync")
	require.NoError(t, err)
	defer os.Remove(file.Name())
	defer file.Close()
	n, began := 0, time.Now()
	for ; time.Since(began) < 500*time.Millisecond; n++ {
		_, err = file.Write(make([]byte, 300))
		require.NoError(t, err)
		require.NoError(t, file.Sync())
	}
	return float64(n) / time.Since(began).Seconds()
}

// inUse is the memory in use.
func inUse() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse + stats.StackInuse
}

// size is what the messages of a server take on the disk.
func size(t *testing.T, dir string) int64 {
	t.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was there a moment ago
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			total += info.Size()
		}
		return nil
	})
	require.NoError(t, err)
	return total
}
