package graphtest

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/graphretry/graphretry"
)

// maxKeptBody bounds what a Call keeps of a body, so that an upload of any size
// may be sent through the fake.
const maxKeptBody = 1 << 20

// A Call is what the API recorded of one request. Nothing of its query or its
// headers is kept, since they hold access tokens.
type Call struct {
	// Time is when the request had been read, which is when its answer was
	// settled.
	Time time.Time
	// Method and Path are those of the request.
	Method, Path string
	// Body is the request's body, its first MiB if it is longer. Calls with equal
	// bodies share it: do not change it.
	Body []byte
	// Size is the length of the whole body in bytes.
	Size int64
	// Status is the answer's HTTP status, 0 if there was no answer (FaultBreak,
	// FaultHang, or a request that broke off before it was read whole).
	Status int
	// Code is the code of the answer's Graph error, 0 if there was none.
	Code graphretry.Code
	// TraceID is the answer's fbtrace_id and X-Fb-Trace-Id.
	TraceID string
	// Down reports whether the call came while the API was down, whatever answered.
	Down bool
	// Accepted reports whether the call brought a message, and it was accepted.
	Accepted bool
}

// A Message is a message that the API has accepted.
type Message struct {
	// Time is when it was accepted.
	Time time.Time
	// ID is the id that the answer gave it, beginning with "wamid.".
	ID string
	// Key is what tells messages apart: CallbackData, or the whole body where
	// there is none.
	Key string
	// CallbackData is the message's biz_opaque_callback_data.
	CallbackData string
	// RecipientID is the WhatsApp id of the receiver (wa_id): the digits of "to".
	RecipientID string
	// PhoneNumberID is the sender's, from the path.
	PhoneNumberID string
	// Body is the request's body. Messages with equal bodies share it: do not
	// change it.
	Body []byte
}

// Totals are the sums of what an API has recorded.
type Totals struct {
	// Calls is the number of calls, WhileDown that of the calls that came while
	// the API was down.
	Calls, WhileDown int
	// Accepted is the number of messages accepted, Duplicates that of the
	// messages among them whose Key had been accepted before.
	Accepted, Duplicates int
	// OpenBodies is the number of answers given in memory whose Body has not been
	// closed.
	OpenBodies int
}

// record is everything an API remembers. It has no lock: the API's guards it.
type record struct {
	calls    []Call
	messages []Message
	keys     map[string]int // how often each was accepted
	// bodies lets calls with equal bodies share one copy: a message that is
	// retried a thousand times is kept once.
	bodies               map[[sha256.Size]byte][]byte
	whileDown, duplicate int
}

func newRecord() record {
	return record{keys: map[string]int{}, bodies: map[[sha256.Size]byte][]byte{}}
}

func (r *record) keep(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	sum := sha256.Sum256(body)
	kept, ok := r.bodies[sum]
	if !ok {
		kept = body
		r.bodies[sum] = body
	}
	return kept
}

func (r *record) add(c Call) {
	r.calls = append(r.calls, c)
	if c.Down {
		r.whileDown++
	}
}

func (r *record) accept(m Message) {
	r.messages = append(r.messages, m)
	if r.keys[m.Key]++; r.keys[m.Key] > 1 {
		r.duplicate++
	}
}

// Totals returns the sums, at no cost that grows with the number of calls.
func (a *API) Totals() Totals {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Totals{
		Calls:      len(a.record.calls),
		WhileDown:  a.record.whileDown,
		Accepted:   len(a.record.messages),
		Duplicates: a.record.duplicate,
		OpenBodies: int(a.open.Load()),
	}
}

// Calls returns every call so far, in the order of Time.
func (a *API) Calls() []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.calls)
}

// CallsPerSecond counts the calls of each second from the moment since: the
// first element those of the first second, and so on up to the last call. Calls
// before since are left out. The zero Time stands for the time of the first call.
func (a *API) CallsPerSecond(since time.Time) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.record.calls
	if len(calls) == 0 {
		return nil
	}
	if since.IsZero() {
		since = calls[0].Time
	}
	last := calls[len(calls)-1].Time
	if last.Before(since) {
		return nil
	}
	counts := make([]int, last.Sub(since)/time.Second+1)
	for _, c := range calls {
		if !c.Time.Before(since) {
			counts[c.Time.Sub(since)/time.Second]++
		}
	}
	return counts
}

// Accepted returns every message accepted so far, one that was accepted twice
// twice, in the order of Time.
func (a *API) Accepted() []Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.messages)
}

// AcceptedKeys returns the Key of every message accepted so far, one that was
// accepted twice twice, in the order in which they were accepted.
func (a *API) AcceptedKeys() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := make([]string, len(a.record.messages))
	for i, m := range a.record.messages {
		keys[i] = m.Key
	}
	return keys
}

// Duplicates returns the messages whose Key had been accepted before: nothing,
// if nothing was sent twice.
func (a *API) Duplicates() []Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	var again []Message
	seen := make(map[string]bool, len(a.record.keys))
	for _, m := range a.record.messages {
		if seen[m.Key] {
			again = append(again, m)
		}
		seen[m.Key] = true
	}
	return again
}

// Lost returns those of the keys that were never accepted, in the order given:
// nothing, if nothing was lost.
func (a *API) Lost(keys ...string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var lost []string
	for _, key := range keys {
		if a.record.keys[key] == 0 {
			lost = append(lost, key)
		}
	}
	return lost
}
