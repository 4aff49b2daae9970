package outbox

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/graphretry/graphretry"
)

// State is where a message is in its life.
type State string

const (
	// StateQueued: the message waits for a worker, or for its next attempt.
	StateQueued State = "queued"
	// StateSending: a worker has announced that it sends the message, and the
	// answer is not in yet. A worker that dies here leaves this state behind; the
	// message is then parked as unknown once JetStream delivers it again.
	StateSending State = "sending"
	// StateSent: Meta has taken the message.
	StateSent State = "sent"
	// StateFailed: the message was not sent, or Meta could not deliver it, and it
	// will not be tried again.
	StateFailed State = "failed"
	// StateUnknown: the message may or may not have been sent, and is not sent
	// again until a webhook or a person settles it.
	StateUnknown State = "unknown"
)

// record is all that is known of one message. There is one for each id, in the
// bucket, and it is the truth: the queue only says when to look at it.
type record struct {
	ID            string          `json:"id"`
	PhoneNumberID string          `json:"phone_number_id"`
	Payload       json.RawMessage `json:"payload"`
	Enqueued      time.Time       `json:"enqueued"`
	// Queued is when the message's age began: when it was enqueued, or put back
	// by Resend.
	Queued time.Time `json:"queued"`

	State   State     `json:"state"`
	Changed time.Time `json:"changed"`
	// Generation counts how often the message was put into the queue anew. A
	// message in the queue is for one generation; one for an earlier generation
	// is left over, and worth nothing.
	Generation int `json:"generation"`
	// Write is a nonce of the write itself. It lets a writer whose answer was
	// lost find out whether the write was made.
	Write string `json:"write"`

	// Urgent puts its messages into the queue of the urgent ones.
	Urgent bool `json:"urgent,omitempty"`
	// ExpiresAt is when it is worth nothing any more; zero: only its age counts.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// NotBefore is when the next attempt may be made.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Retries is how often the message was retried, by the code of the failure;
	// code 0 stands for a connection that could not be made.
	Retries map[graphretry.Code]int `json:"retries,omitempty"`
	// Mark is who is sending, or was when the message became unknown.
	Mark *mark `json:"mark,omitempty"`

	MessageID string `json:"message_id,omitempty"`
	// Refuted are the wamids whose failure was dealt with. What else Meta says of
	// them proves nothing of a later attempt.
	Refuted []string `json:"refuted,omitempty"`
	// Doubts is how many earlier attempts may have been sent, though a person has
	// said that they were not, and have not been refuted since.
	Doubts int               `json:"doubts,omitempty"`
	Graph  *graphretry.Error `json:"graph,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

// mark is written before an attempt.
type mark struct {
	// Token tells this attempt from every other.
	Token string `json:"token"`
	// Sequence is the number in the queue of the message that the attempt was
	// made for. Another message for the same generation is a mere copy.
	Sequence uint64 `json:"sequence"`
}

// queued is a message in the queue. It holds all that the record begins with,
// so that it is enough by itself if who enqueued it died before the record was
// written.
type queued struct {
	ID            string          `json:"id"`
	Generation    int             `json:"generation,omitempty"`
	PhoneNumberID string          `json:"phone_number_id,omitempty"`
	Payload       json.RawMessage `json:"payload,omitempty"`
	Enqueued      time.Time       `json:"enqueued,omitzero"`
	Urgent        bool            `json:"urgent,omitempty"`
	NotBefore     time.Time       `json:"not_before,omitzero"`
	ExpiresAt     time.Time       `json:"expires_at,omitzero"`
}

// record is the record that a message of generation 0 begins with.
func (q queued) record() record {
	return record{
		ID: q.ID, PhoneNumberID: q.PhoneNumberID, Payload: q.Payload,
		Enqueued: q.Enqueued, Queued: q.Enqueued, State: StateQueued, Changed: q.Enqueued,
		Urgent: q.Urgent, NotBefore: q.NotBefore, ExpiresAt: q.ExpiresAt,
	}
}

// entry returns the message in the queue for the record's generation.
func (r *record) entry() queued {
	return queued{ID: r.ID, Generation: r.Generation, Urgent: r.Urgent}
}

// clone shares no map, slice or pointer that a change would write to.
func (r record) clone() record {
	r.Retries = maps.Clone(r.Retries)
	r.Refuted = slices.Clone(r.Refuted)
	return r
}

// sound reports whether a record that was read is one of ours.
func (r *record) sound() bool {
	switch r.State {
	case StateQueued, StateSent, StateFailed, StateUnknown:
		return true
	case StateSending:
		return r.Mark != nil
	}
	return false
}

// ended reports whether the message in the queue has done its work for this
// generation. Nothing leads back from these states to queued but a new
// generation, so even an old reading of such a state can be relied on.
func (r *record) ended() bool {
	return r.State == StateSent || r.State == StateFailed || r.State == StateUnknown
}

// markedBy reports whether the attempt with that token is the one the record
// waits for.
func (r *record) markedBy(token string) bool {
	return (r.State == StateSending || r.State == StateUnknown) && r.Mark != nil && r.Mark.Token == token
}

// retries is how often the message was retried, for whatever reason.
func (r *record) retries() int {
	total := 0
	for _, n := range r.Retries {
		total += n
	}
	return total
}

func (r *record) toSent(messageID string) {
	r.State, r.Mark, r.NotBefore = StateSent, nil, time.Time{}
	r.Graph, r.Reason = nil, ""
	if messageID != "" {
		r.MessageID = messageID
	}
}

func (r *record) toFailed(e *graphretry.Error, reason string) {
	r.State, r.Mark, r.NotBefore = StateFailed, nil, time.Time{}
	if e != nil {
		r.Graph = kept(e)
	}
	r.Reason = reason
}

// toUnknown keeps the mark, so that the attempt that made it, should its answer
// come late, can still say what happened.
func (r *record) toUnknown(reason string) {
	r.State, r.Reason = StateUnknown, reason
}

// toRetry is for a message that was not sent and will be, after the wait.
func (r *record) toRetry(code graphretry.Code, e *graphretry.Error, reason string, notBefore time.Time) {
	if r.State != StateSending {
		r.Generation++ // its message has left the queue
	}
	r.State, r.Mark, r.NotBefore = StateQueued, nil, notBefore
	r.MessageID = ""
	if e != nil {
		r.Graph = kept(e)
	}
	r.Reason = reason
	if r.Retries == nil {
		r.Retries = map[graphretry.Code]int{}
	}
	r.Retries[code]++
}

// toHeld is for a message that was not sent through no fault of its own.
func (r *record) toHeld(e *graphretry.Error, reason string, notBefore time.Time) {
	r.State, r.Mark, r.NotBefore = StateQueued, nil, notBefore
	r.Graph, r.Reason = kept(e), reason
}

// toQueued puts the message back as if it were new, at a person's word.
func (r *record) toQueued(now time.Time) {
	if r.State == StateUnknown {
		r.Doubts++
	}
	r.Generation++
	r.State, r.Mark, r.NotBefore = StateQueued, nil, time.Time{}
	r.Queued, r.Retries, r.Reason, r.Graph, r.MessageID = now, nil, "", nil, ""
}

// maxText bounds each text of a Graph error in a record, in bytes, so that a
// record that could be written once can be written again.
const maxText = 1 << 10

// kept is what a record keeps of a Graph error: not Raw, where Meta may have
// echoed a token, and no text beyond maxText.
func kept(e *graphretry.Error) *graphretry.Error {
	if e == nil {
		return nil
	}
	short := *e
	short.Raw = nil
	for _, text := range []*string{
		&short.Type, &short.Message, &short.Details, &short.UserTitle, &short.UserMessage, &short.TraceID,
	} {
		*text = shorten(*text)
	}
	return &short
}

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// keyOf is the id as it may stand in a key and a subject, where JetStream allows
// few characters and splits at dots.
func keyOf(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }
