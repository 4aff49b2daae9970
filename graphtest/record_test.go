package graphtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry/graphtest"
)

func TestWhatWasSentTwiceAndWhatWasLost(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		assert.Empty(t, api.Duplicates())
		assert.Equal(t, []string{"a"}, api.Lost("a"))

		w.send(t, "a")
		w.send(t, "b")
		w.send(t, "a")
		api.AnswerNext(1, graphtest.Answer{Code: 2})
		w.send(t, "c")
		w.send(t, "a")

		assert.Equal(t, []string{"a", "b", "a", "a"}, api.AcceptedKeys())
		duplicates := api.Duplicates()
		assert.Len(t, duplicates, 2)
		assert.Equal(t, api.Accepted()[2:], duplicates)
		assert.Equal(t, []string{"c", "d"}, api.Lost("a", "c", "b", "d"))
		assert.Empty(t, api.Lost("a", "b"))
		assert.Empty(t, api.Lost())
		assert.Equal(t, graphtest.Totals{Calls: 5, Accepted: 4, Duplicates: 2}, api.Totals())
	})
}

func TestMessagesWithoutCallbackDataAreDistinguishedByTheirBody(t *testing.T) {
	w, api := newMemory()
	const hello, bye = `{"messaging_product":"whatsapp","to":"1","text":{"body":"Hello"}}`, `{"messaging_product":"whatsapp","to":"1","text":{"body":"Bye"}}`
	for _, body := range []string{hello, bye, hello} {
		w.do(t, http.MethodPost, messages, "", body)
	}
	assert.Equal(t, []string{hello, bye, hello}, api.AcceptedKeys())
	assert.Len(t, api.Duplicates(), 1)
	assert.Empty(t, api.Duplicates()[0].CallbackData)
}

func TestCallsAreCountedSecondBySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		begun := time.Now()
		assert.Empty(t, api.CallsPerSecond(begun))
		assert.Empty(t, api.CallsPerSecond(time.Time{}))
		time.Sleep(time.Second)
		for _, pause := range []time.Duration{0, 999 * time.Millisecond, time.Millisecond, 3 * time.Second} {
			time.Sleep(pause)
			w.send(t, "order-1")
		}
		assert.Equal(t, []int{0, 2, 1, 0, 0, 1}, api.CallsPerSecond(begun))
		assert.Equal(t, []int{2, 1, 0, 0, 1}, api.CallsPerSecond(time.Time{}), "from the first call")
		assert.Equal(t, []int{0, 0, 1}, api.CallsPerSecond(begun.Add(3*time.Second)))
		assert.Empty(t, api.CallsPerSecond(begun.Add(time.Hour)))
	})
}

func TestTimeOfACallIsThatOfItsArrivalNotOfItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newMemory()
		api.SetLatency(time.Minute)
		begun := time.Now()
		w.send(t, "order-1")
		assert.Equal(t, begun, api.Calls()[0].Time)
		assert.Equal(t, begun, api.Accepted()[0].Time)
	})
}

func TestBodyBeyondOneMiBIsCountedAndNotKept(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		body := strings.Repeat("graphtest ", 300_000)
		w.do(t, http.MethodPost, media, "", body)
		call := api.Calls()[0]
		assert.EqualValues(t, len(body), call.Size)
		assert.Equal(t, body[:1<<20], string(call.Body))
	})
}

func TestRetriesShareOneCopyOfTheirBody(t *testing.T) {
	w, api := newMemory()
	w.send(t, "order-1")
	w.send(t, "order-2")
	w.send(t, "order-1")
	calls := api.Calls()
	assert.Same(t, &calls[0].Body[0], &calls[2].Body[0])
	assert.NotSame(t, &calls[0].Body[0], &calls[1].Body[0])
	assert.Same(t, &calls[0].Body[0], &api.Accepted()[0].Body[0])
}

func TestListsAreTheCallersOwn(t *testing.T) {
	w, api := newMemory()
	w.send(t, "order-1")
	api.Calls()[0].Path = "changed"
	api.Accepted()[0].Key = "changed"
	api.AcceptedKeys()[0] = "changed"
	assert.Equal(t, messages, api.Calls()[0].Path)
	assert.Equal(t, []string{"order-1"}, api.AcceptedKeys())
	assert.Equal(t, "order-1", api.Accepted()[0].Key)
}

func TestCallsFromManyGoroutinesAreAllRecorded(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		const senders, each = 8, 50
		var sent sync.WaitGroup
		for i := range senders {
			sent.Go(func() {
				for j := range each {
					w.send(t, fmt.Sprintf("%d/%d", i, j))
					api.Totals()
				}
			})
		}
		for range 100 {
			api.AnswerNext(1, graphtest.Answer{})
			api.DownAfter(time.Hour, time.Hour, graphtest.Answer{})
			api.Calls()
			api.Duplicates()
		}
		sent.Wait()
		assert.Equal(t, graphtest.Totals{Calls: senders * each, Accepted: senders * each}, api.Totals())
		assert.IsNonDecreasing(t, times(api.Calls()))
	})
}

func times(calls []graphtest.Call) []int64 {
	times := make([]int64, len(calls))
	for i, call := range calls {
		times[i] = call.Time.UnixNano()
	}
	return times
}

// BenchmarkCall is a call in memory, as the load tests make them by the hundred
// thousand.
func BenchmarkCall(b *testing.B) {
	for name, answer := range map[string]graphtest.Answer{"accepted": {}, "refused": {Code: 131016}} {
		b.Run(name, func(b *testing.B) {
			api := graphtest.New()
			api.AnswerNext(b.N, answer)
			client := http.Client{Transport: api}
			b.ReportAllocs()
			for i := range b.N {
				body := strings.NewReader(message(fmt.Sprint(i % 1000)))
				response, err := client.Post("https://graph.facebook.com"+messages, "application/json", body)
				if err != nil {
					b.Fatal(err)
				}
				response.Body.Close()
			}
		})
	}
}
