package outbox_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
)

// holding opens an outbox whose attempts wait to be released after the API has
// answered them.
func (b *bench) holding(opts ...outbox.Option) (o *outbox.Outbox, held, release chan struct{}) {
	held, release = make(chan struct{}, 10), make(chan struct{})
	o = b.open(roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := b.api.RoundTrip(req)
		held <- struct{}{}
		<-release
		return resp, err
	}), append([]outbox.Option{outbox.WithAttemptTimeout(time.Minute)}, opts...)...)
	return o, held, release
}

func TestSecondDeliveryParksAndTheLateAnswerSettles(t *testing.T) {
	for name, row := range map[string]struct {
		answer graphtest.Answer
		first  string
		state  outbox.State
	}{
		"sent":           {graphtest.Answer{}, "done", outbox.StateSent},
		"refused":        {graphtest.Answer{Code: 100}, "done", outbox.StateFailed},
		"refused, again": {graphtest.Answer{Code: 131016}, "done", outbox.StateQueued},
		"lost":           {graphtest.Answer{Fault: graphtest.FaultBreak}, "done", outbox.StateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			b := newHarness(t)
			b.api.AnswerNext(1, row.answer)
			o, held, release := b.holding()
			b.enqueue("a")
			first := make(chan string)
			go func() {
				end, err := outbox.Handle(o, "a", 0, 1)
				assert.NoError(t, err)
				first <- end
			}()
			<-held
			end, err := outbox.Handle(o, "a", 0, 1)
			require.NoError(t, err)
			assert.Equal(t, "done", end)
			b.becomes("a", outbox.StateUnknown)
			assert.Len(t, b.api.Calls(), 1, "it is not sent again")
			close(release)
			assert.Equal(t, row.first, <-first)
			b.becomes("a", row.state)

			if row.state == outbox.StateQueued { // by a message of its own, since the first has left the queue
				time.Sleep(50 * time.Millisecond)
				end, err := outbox.Handle(o, "a", 1, 2)
				require.NoError(t, err)
				assert.Equal(t, "done", end)
				b.becomes("a", outbox.StateSent)
			}
		})
	}
}

func TestCopyOfAMessageThatIsBeingSentIsTakenOut(t *testing.T) {
	b := newHarness(t)
	o, held, release := b.holding()
	b.enqueue("a")
	first := make(chan string)
	go func() {
		end, _ := outbox.Handle(o, "a", 0, 1)
		first <- end
	}()
	<-held
	end, err := outbox.Handle(o, "a", 0, 7)
	require.NoError(t, err)
	assert.Equal(t, "again", end)
	b.becomes("a", outbox.StateSending)
	close(release)
	assert.Equal(t, "done", <-first)
	b.becomes("a", outbox.StateSent)
}

// Everybody reads that the message is queued; one can mark it.
func TestOneOfManyDeliveriesAtOnceSends(t *testing.T) {
	b := newHarness(t)
	b.api.SetLatency(20 * time.Millisecond)
	var waiting atomic.Int32
	const n = 8
	b.enqueue("a")
	ends := make(chan string, n)
	go func() {
		for sequence := range uint64(n) {
			go func() {
				waiting.Add(1)
				end, _ := outbox.Handle(b.Outbox, "a", 0, sequence)
				ends <- end
			}()
		}
	}()
	for range n {
		assert.Contains(t, []string{"done", "leave", "again"}, <-ends)
	}
	assert.Equal(t, 1, b.api.Totals().Calls)
	b.becomes("a", outbox.StateSent)
}

func TestMessageOfAnEarlierOrLaterGenerationIsNotSent(t *testing.T) {
	b := newHarness(t)
	b.enqueue("a")
	require.NoError(t, b.Drop(t.Context(), "a"))
	require.NoError(t, b.Resend(t.Context(), "a"))
	end, err := outbox.Handle(b.Outbox, "a", 0, 1)
	require.NoError(t, err)
	assert.Equal(t, "done", end, "an earlier one is left over")
	end, err = outbox.Handle(b.Outbox, "a", 2, 3)
	require.NoError(t, err)
	assert.Equal(t, "again", end, "a later one shows that the record was read from a replica that lags behind")
	assert.Zero(t, b.api.Totals().Calls)
	end, err = outbox.Handle(b.Outbox, "a", 1, 2)
	require.NoError(t, err)
	assert.Equal(t, "done", end)
	assert.Equal(t, 1, b.api.Totals().Accepted)
}

func TestRecordThatHasChangedSinceItWasReadIsNotSent(t *testing.T) {
	b := newHarness(t)
	o := b.open(roundTripper(func(*http.Request) (*http.Response, error) {
		panic("it must not come here")
	}), outbox.WithAccessToken("token"), outbox.WithTransportOptions())
	b.enqueue("a")
	end, err := outbox.HandleAfter(o, "a", func() { require.NoError(t, outbox.Touch(o, "a")) })
	require.NoError(t, err)
	assert.Equal(t, "again", end)
	b.becomes("a", outbox.StateQueued)
}

func TestMarkThatCouldNotBeMadeInTimeIsTakenBack(t *testing.T) {
	b := newHarness(t)
	for _, made := range []bool{false, true} {
		id := map[bool]string{false: "still on its way", true: "made"}[made]
		b.enqueue(id)
		require.NoError(t, outbox.LateMark(b.Outbox, id, made))
		b.becomes(id, outbox.StateQueued)
	}
}

// Another machine may give fewer seconds than one that is at work knows of.
func TestShorterAckWaitParksNoHealthyAttempt(t *testing.T) {
	b := newHarness(t, outbox.WithAckWait(30*time.Second))
	o, held, release := b.holding(outbox.WithAckWait(30 * time.Second))
	b.enqueue("a")
	run(t, o)
	<-held
	other := b.open(nil, outbox.WithAckWait(3*time.Second))
	run(t, other)
	time.Sleep(4 * time.Second) // one sign of life a second comes in that time
	assert.Equal(t, outbox.StateSending, b.becomes("a", outbox.StateSending).State)
	close(release)
	b.becomes("a", outbox.StateSent)
	assert.Len(t, b.api.Calls(), 1)
}
