// Package message is the life of a message: its record, and what becomes of the record when
// something happens. It uses no clock, no context and no database.
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

// The states. Package outbox explains them.
const (
	StateQueued  State = "queued"
	StateSending State = "sending"
	StateSent    State = "sent"
	StateFailed  State = "failed"
	StateUnknown State = "unknown"
)

// Record is what the outbox knows about one message, except its payload.
type Record struct {
	ID       string
	Number   string // the business's phone number ID
	Enqueued time.Time
	// ExpiresAt is when it is of no use any more, zero if only its age counts.
	ExpiresAt time.Time
	// Urgent has it overtake the messages of its number that are not urgent.
	Urgent bool
	// Recipient is who receives it, "" if its payload does not say.
	Recipient string
	// Label is what it belongs to, such as a campaign, "" for nothing.
	Label string

	State State
	// Changed is when the record last changed.
	Changed time.Time
	// Place is its place in the queue: its NotBefore, or the time when it was enqueued or
	// resent. A retry does not change it.
	Place time.Time
	// Due is when the next attempt may be made, never before Place.
	Due time.Time

	Memory
}

// Memory is the part of a record that most messages need only at their end. It is kept as JSON.
type Memory struct {
	// Born is when the message's age began, if that is not when it was enqueued: Resend sets
	// it.
	Born Moment `json:"born,omitzero"`
	// History is what the Policy counts.
	History graphretry.History `json:"history,omitzero"`
	// Token identifies the attempt that is under way, or whose end is unknown.
	Token string `json:"token,omitempty"`

	// MessageID is the wamid under which Meta has accepted it. Others are those of other
	// attempts that Meta has accepted too.
	MessageID string   `json:"message_id,omitempty"`
	Others    []string `json:"others,omitempty"`
	// Delivered and Read are when it was delivered and read, as Meta says.
	Delivered Moment `json:"delivered,omitzero"`
	Read      Moment `json:"read,omitzero"`
	// Refuted are the wamids that failed, as Meta says. Nothing else that Meta says about them
	// proves anything, except that a device has the message.
	Refuted []string `json:"refuted,omitempty"`
	// Overtook are those of Refuted that may belong to the attempt whose answer has not come,
	// with the failure of each.
	Overtook map[string]*graphretry.Error `json:"overtook,omitempty"`
	// Doubts is how many earlier attempts may have been sent, although a person has said that
	// they were not, and about which no webhook has come since.
	Doubts int `json:"doubts,omitempty"`
	// Participants are those of a group who do not get it. ParticipantGraph is the error of the
	// last one.
	Participants     []string          `json:"participants,omitempty"`
	ParticipantGraph *graphretry.Error `json:"participant_graph,omitempty"`
	// LastRefusal is when it was last refused for a reason that is not its fault. Refusals is
	// how often that happened, with another message of its number accepted in between.
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

// Moment is a time that is kept in microseconds.
type Moment struct{ time.Time }

// MarshalJSON returns the microseconds since 1970.
func (m Moment) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, m.UnixMicro(), 10), nil }

// UnmarshalJSON reads the microseconds since 1970.
func (m *Moment) UnmarshalJSON(data []byte) error {
	micro, err := strconv.ParseInt(string(data), 10, 64)
	m.Time = time.UnixMicro(micro).UTC()
	return err
}

// Clone returns a copy that shares no map or slice to which a change would write.
func (r Record) Clone() Record {
	r.History.Retries = maps.Clone(r.History.Retries)
	r.Refuted, r.Others, r.Participants = slices.Clone(r.Refuted), slices.Clone(r.Others), slices.Clone(r.Participants)
	r.Overtook = maps.Clone(r.Overtook)
	return r
}

// Retries is how often the message was retried, for any reason.
func (r *Record) Retries() int {
	total := r.History.Network
	for _, n := range r.History.Retries {
		total += n
	}
	return total
}

// markedBy reports whether the record waits for the answer to the attempt with that token.
func (r *Record) markedBy(token string) bool { return r.Token != "" && r.Token == token }

// maxText bounds each text of a Graph error in a record, in bytes.
const maxText = 1 << 10

// kept returns what a record keeps of a Graph error: no Raw, in which Meta may have repeated a
// token, and no text beyond maxText.
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

// Shorten cuts a text to the length that a record keeps.
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
