package outbox

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
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

	// stateDeleted is what a deleted message leaves behind, so that its id is not
	// taken for a new one.
	stateDeleted State = "deleted"
)

// schemaVersion is the version of all that is written. A version that this program does
// not know is left alone.
const schemaVersion = 1

// record is what is known of one message but its payload. There is one for each id, and
// it is the truth: the queue only says when to look at it. Its phone number stands in
// its subject.
type record struct {
	Version  int    `json:"v"`
	ID       string `json:"id,omitempty"`
	Enqueued moment `json:"enqueued,omitzero"`
	// Queued is when the message's age began, if not when it was enqueued: when
	// Resend put it back.
	Queued moment `json:"queued,omitzero"`

	State   State  `json:"state"`
	Changed moment `json:"changed,omitzero"`
	// Generation counts how often the message was put into the queue anew. An entry
	// in the queue is for one generation; one for an earlier generation is left over,
	// and worth nothing.
	Generation int `json:"generation,omitempty"`
	// Write is a nonce of the write itself. It lets a writer whose answer was
	// lost find out whether the write was made.
	Write string `json:"write"`

	// Urgent puts its entries into the queue of the urgent ones.
	Urgent bool `json:"urgent,omitempty"`
	// Recipient is the hash of who receives it, if its turn has to come.
	Recipient string `json:"recipient,omitempty"`
	// ExpiresAt is when it is worth nothing any more; zero: only its age counts.
	ExpiresAt moment `json:"expires_at,omitzero"`
	// NotBefore is when the next attempt may be made.
	NotBefore moment `json:"not_before,omitzero"`
	// Retries is how often the message was retried, by the code of the failure;
	// code 0 stands for a connection that could not be made.
	Retries map[graphretry.Code]int `json:"retries,omitempty"`
	// Mark is who is sending, or was when the message became unknown.
	Mark *mark `json:"mark,omitempty"`

	MessageID string `json:"message_id,omitempty"`
	// Delivered and Read are when Meta says that it was.
	Delivered moment `json:"delivered,omitzero"`
	Read      moment `json:"read,omitzero"`
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
	// Sequence is that of the entry in the queue that the attempt was made for.
	Sequence uint64 `json:"sequence"`
}

// entry is what stands in the queue: which message to look at.
type entry struct {
	ID         string `json:"id"`
	Generation int    `json:"generation,omitempty"`
	Urgent     bool   `json:"urgent,omitempty"`
}

// moment is a time in a record: microseconds, in a third of the bytes of a text.
type moment struct{ time.Time }

func (m moment) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, m.UnixMicro(), 10), nil }

func (m *moment) UnmarshalJSON(data []byte) error {
	micro, err := strconv.ParseInt(string(data), 10, 64)
	m.Time = time.UnixMicro(micro).UTC()
	return err
}

// entry returns the entry in the queue for the record's generation.
func (r *record) entry() entry {
	return entry{ID: r.ID, Generation: r.Generation, Urgent: r.Urgent}
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

// isActive reports whether the message is in the queue or with a worker. Nothing leads
// back to that but a new generation, so even an old reading that it is over can be
// relied on.
func (r *record) isActive() bool {
	return r.State == StateQueued || r.State == StateSending
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

// maxText bounds each text of a Graph error in a record, in bytes.
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

// keyOf is what stands for an id in a subject, where JetStream allows few characters
// and splits at dots, and is all that Delete leaves of it.
func keyOf(id string) string { return hashOf(id) }

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}
