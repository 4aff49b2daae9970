// Package whatsapp makes the attempts of a job queue's jobs to send a WhatsApp message.
package whatsapp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/graphretry/graphretry"
)

// MaxAge is how old a job can be that waits.
const MaxAge = 24 * time.Hour

// AttemptTimeout is how long an attempt can take. What limits the time of a job in the
// queue must be longer.
const AttemptTimeout = 30 * time.Second

// Message is a text message from the phone number with the ID From.
type Message struct{ From, To, Text string }

// Job is what an attempt must know of a job.
type Job struct {
	// ID comes back in webhooks, as biz_opaque_callback_data.
	ID      string
	Created time.Time
	History graphretry.History
}

// BaseURL is Meta's API. Set the newest version in it: Meta ends a version two years after
// the next one came out. See https://developers.facebook.com/docs/graph-api/changelog/versions.
const BaseURL = "https://graph.facebook.com/v25.0"

// Sender sends messages.
type Sender struct {
	// Policy decides what becomes of a job.
	Policy *graphretry.Policy

	client         *http.Client
	baseURL, token string
}

// NewSender returns a Sender that sends to baseURL through next, with the options of a
// Transport.
func NewSender(next http.RoundTripper, baseURL, token string, opts ...graphretry.Option) (*Sender, error) {
	policy, err := graphretry.NewPolicy(opts...)
	if err != nil {
		return nil, err
	}
	opts = append(opts, graphretry.WithoutWaiting(), graphretry.WithAttemptTimeout(AttemptTimeout))
	transport, err := graphretry.NewTransport(marking{next}, opts...)
	if err != nil {
		return nil, err
	}
	// A redirect would make a GET of the POST. A Timeout here would hide whether anything was
	// sent, which AttemptTimeout does not.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Sender{policy, client, baseURL, token}, nil
}

// Send makes one attempt, and returns what becomes of the job. mark is called just before
// the request goes out. It stores with the job that the message may have been sent, which
// the Decision that it is given says. An error means that nothing was sent, and that it is
// nothing of Meta's: the queue's own schedule is right for it.
//
// A deploy that ends ctx does not end a request that is out.
func (s *Sender) Send(ctx context.Context, message Message, job Job, mark func(graphretry.Decision) error) (graphretry.Decision, error) {
	body, err := json.Marshal(map[string]any{
		"messaging_product": "whatsapp", "to": message.To, "type": "text", "text": map[string]string{"body": message.Text},
		"biz_opaque_callback_data": job.ID,
	})
	if err != nil {
		return graphretry.Decision{}, err
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), markKey{}, func() error {
		return mark(graphretry.Decision{Outcome: graphretry.OutcomeUnknown, Cause: "a worker ended while it was sending", History: job.History})
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.baseURL+"/"+url.PathEscape(message.From)+"/messages", bytes.NewReader(body))
	if err != nil {
		return graphretry.Decision{}, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if errors.Is(err, errNotMarked) {
		return graphretry.Decision{}, err
	}
	decision := s.Policy.Next(resp, err, job.History)
	if err == nil {
		resp.Body.Close()
	}
	if decision.Wait > 0 && time.Since(job.Created) > MaxAge {
		decision.Outcome, decision.Retry = graphretry.OutcomeFailed, false
	}
	return decision, nil
}

// marking marks a job just before its request goes out. It stands beneath the Transport,
// which sends nothing while the API is down.
type marking struct{ next http.RoundTripper }

type markKey struct{}

var errNotMarked = errors.New("nothing was sent, since the job could not be marked")

func (m marking) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Value(markKey{}).(func() error)(); err != nil {
		req.Body.Close()
		return nil, fmt.Errorf("%w: %w", errNotMarked, err)
	}
	return m.next.RoundTrip(req)
}
