package graphretry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// messageJob is what the queue keeps of a message, as JSON.
type messageJob struct {
	Body    string // with the job's ID as its biz_opaque_callback_data
	Created time.Time
	Last    graphretry.Decision // what became of the last attempt
}

// messageWorker is a worker of a job queue. It makes one attempt and never waits: the queue
// does.
type messageWorker struct {
	client *http.Client
	policy *graphretry.Policy
}

func newMessageWorker(next http.RoundTripper, opts ...graphretry.Option) (*messageWorker, error) {
	policy, err := graphretry.NewPolicy(opts...)
	if err != nil {
		return nil, err
	}
	opts = append(opts, graphretry.WithoutWaiting(), graphretry.WithAttemptTimeout(30*time.Second))
	transport, err := graphretry.NewTransport(markingTransport{next}, opts...)
	if err != nil {
		return nil, err
	}
	// A redirect would make a GET of the POST.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &messageWorker{client, policy}, nil
}

// attempt makes one attempt, and leaves in j what becomes of it. save stores j in the queue,
// and fails if another worker has had the job since. An error is the queue's own. If it is
// of the last save, the mark stands.
func (w *messageWorker) attempt(ctx context.Context, j *messageJob, save func() error) error {
	if last := j.Last.Outcome; last == graphretry.OutcomeUnknown || last == graphretry.OutcomeSent {
		return nil // its own mark: a worker was killed while it was sending, or after that
	}
	history := j.Last.History
	mark := func() error {
		j.Last = graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: "a worker ended while it was sending", History: history}
		return save()
	}
	// A deploy that stops the worker ends its context. A request that is out goes on.
	ctx = context.WithValue(context.WithoutCancel(ctx), markKey{}, mark)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sendURL, strings.NewReader(j.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if errors.Is(err, errNotMarked) {
		return err
	}
	if err == nil {
		defer resp.Body.Close()
	}
	j.Last = w.policy.Next(resp, err, history)
	if j.Last.Wait > 0 && time.Since(j.Created) > 24*time.Hour {
		j.Last.Outcome = graphretry.OutcomeFailed // it has waited long enough
	}
	return save()
}

// markingTransport marks a job just before its request goes out. It stands beneath the
// Transport, which sends nothing while the API is down.
type markingTransport struct{ next http.RoundTripper }

type markKey struct{}

var errNotMarked = errors.New("nothing was sent, since the job could not be marked")

func (m markingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Value(markKey{}).(func() error)(); err != nil {
		req.Body.Close()
		return nil, fmt.Errorf("%w: %w", errNotMarked, err)
	}
	return m.next.RoundTrip(req)
}

// A worker of a job queue, whole but for the queue.
func ExamplePolicy_Next() {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	api.AnswerNext(1, graphtest.Answer{Code: 190})
	api.AnswerNext(1, graphtest.Answer{})
	api.AnswerNext(1, graphtest.Answer{Status: http.StatusBadGateway})
	worker, err := newMessageWorker(api, graphretry.WithJitter(0))
	if err != nil {
		log.Fatal(err)
	}

	work := func(j *messageJob) {
		save := func() error { return nil } // the queue's own
		if err := worker.attempt(context.Background(), j, save); err != nil {
			fmt.Println("the queue's own schedule:", err)
			return
		}
		switch j.Last.Outcome {
		case graphretry.OutcomeSent:
			fmt.Println("done")
		case graphretry.OutcomeRetry, graphretry.OutcomeHeld:
			fmt.Println("again in", j.Last.Wait) // without counting against the queue's maximum
		case graphretry.OutcomeFailed:
			fmt.Println("give up:", j.Last.Cause)
		case graphretry.OutcomeUnknown:
			fmt.Println("park it:", j.Last.Cause)
		}
	}
	first := &messageJob{Body: reminder, Created: time.Now()}
	work(first)
	work(first)
	work(first)
	second := &messageJob{Body: reminder, Created: time.Now()}
	work(second)
	work(second) // the queue must not, and if it does, nothing is sent
	fmt.Println("calls that reached the API:", api.Totals().Calls)
	// Output:
	// again in 5s
	// again in 5s
	// done
	// park it: may have been carried out: HTTP status 502 and no Graph error
	// park it: may have been carried out: HTTP status 502 and no Graph error
	// calls that reached the API: 4
}
