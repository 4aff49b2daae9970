// Package message is the life of a message: what is known of it, and what becomes of
// that when something happens. It knows no clock, no context and no database.
package message

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/graphretry/graphretry"
)

// State is where a message is in its life.
type State string

// The states. What they mean stands in package outbox.
const (
	StateQueued  State = "queued"
	StateSending State = "sending"
	StateSent    State = "sent"
	StateFailed  State = "failed"
	StateUnknown State = "unknown"
)

// Record is what is known of one message but its payload.
type Record struct {
	ID       string
	Number   string // the business's phone number ID
	Enqueued time.Time
	// ExpiresAt is when it is worth nothing any more; zero: only its age counts.
	ExpiresAt time.Time
	// Urgent has it overtake those of its number that are not.
	Urgent bool
	// Recipient is who receives it, "" if its payload does not say.
	Recipient string
	// Label is what it belongs to, such as a campaign; "" for nothing.
	Label string

	State State
	// Changed is when the record last changed.
	Changed time.Time
	// Place is where it stands in the queue: its NotBefore, or when it was enqueued or
	// resent. A retry keeps it.
	Place time.Time
	// Due is when the next attempt may be made; never before Place.
	Due time.Time

	Memory
}

// Memory is the part of a record that most messages need only at their end. It is kept
// as JSON.
type Memory struct {
	// Born is when the message's age began, if not when it was enqueued: when Resend
	// put it back.
	Born Moment `json:"born,omitzero"`
	// History is what Policy counts by.
	History graphretry.History `json:"history,omitzero"`
	// Token tells the attempt that is under way, or whose end is unknown, from every
	// other.
	Token string `json:"token,omitempty"`

	// MessageID is the wamid under which Meta has accepted it, and Others are those of other
	// attempts that Meta has accepted too.
	MessageID string   `json:"message_id,omitempty"`
	Others    []string `json:"others,omitempty"`
	// Delivered and Read are when Meta says that it was.
	Delivered Moment `json:"delivered,omitzero"`
	Read      Moment `json:"read,omitzero"`
	// Refuted are the wamids that failed, as Meta says. What else Meta says of them, but
	// that a device has it, proves nothing.
	Refuted []string `json:"refuted,omitempty"`
	// Overtook are those of Refuted, with why they failed, that may be the attempt's whose
	// answer is not in yet.
	Overtook map[string]*graphretry.Error `json:"overtook,omitempty"`
	// Doubts is how many earlier attempts may have been sent, though a person has
	// said that they were not, and of which nothing has been heard since.
	Doubts int `json:"doubts,omitempty"`
	// Participants are those of a group who do not get it, and ParticipantGraph is what Meta
	// said of the last.
	Participants     []string          `json:"participants,omitempty"`
	ParticipantGraph *graphretry.Error `json:"participant_graph,omitempty"`
	// LastRefusal is when it was last refused for what is no fault of a message, and Refusals
	// is how often that was, with another of its number accepted between each two.
	LastRefusal Moment `json:"last_refusal,omitzero"`
	Refusals    int    `json:"refusals,omitempty"`

	Graph  *graphretry.Error `json:"graph,omitempty"`
	Reason string            `json:"reason,omitempty"`
}

// IsZero reports whether there is nothing to keep.
func (m *Memory) IsZero() bool {
	return m.Born.IsZero() && len(m.History.Retries) == 0 && m.History.Network == 0 && m.History.Held == 0 &&
		m.Token == "" && m.MessageID == "" && len(m.Others) == 0 && m.Delivered.IsZero() && m.Read.IsZero() && len(m.Refuted) == 0 &&
		len(m.Overtook) == 0 && m.Doubts == 0 && len(m.Participants) == 0 && m.LastRefusal.IsZero() && m.Refusals == 0 &&
		m.Graph == nil && m.Reason == ""
}

// Moment is a time that is kept as microseconds.
type Moment struct{ time.Time }

// MarshalJSON returns the microseconds since 1970.
func (m Moment) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, m.UnixMicro(), 10), nil }

// UnmarshalJSON reads the microseconds since 1970.
func (m *Moment) UnmarshalJSON(data []byte) error {
	micro, err := strconv.ParseInt(string(data), 10, 64)
	m.Time = time.UnixMicro(micro).UTC()
	return err
}

// Clone returns a copy that shares no map or slice that a change would write to.
func (r Record) Clone() Record {
	r.History.Retries = maps.Clone(r.History.Retries)
	r.Refuted, r.Others, r.Participants = slices.Clone(r.Refuted), slices.Clone(r.Others), slices.Clone(r.Participants)
	r.Overtook = maps.Clone(r.Overtook)
	return r
}

// Retries is how often the message was retried, for whatever reason.
func (r *Record) Retries() int {
	total := r.History.Network
	for _, n := range r.History.Retries {
		total += n
	}
	return total
}

// markedBy reports whether the attempt with that token is the one whose answer the record
// waits for.
func (r *Record) markedBy(token string) bool { return r.Token != "" && r.Token == token }

// maxText bounds each text of a Graph error in a record, in bytes.
const maxText = 1 << 10

// kept is what a record keeps of a Graph error: not Raw, where Meta may have echoed a
// token, no text beyond maxText, and nothing that a database refuses.
func kept(e *graphretry.Error) *graphretry.Error {
	if e == nil {
		return nil
	}
	short := *e
	short.Raw = nil
	for _, text := range []*string{
		&short.Type, &short.Message, &short.Details, &short.UserTitle, &short.UserMessage, &short.TraceID,
	} {
		*text = Shorten(*text)
	}
	return &short
}

// Shorten cuts a text to what a record keeps of one.
func Shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
