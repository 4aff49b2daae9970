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
// headers is kept, since they contain access tokens.
type Call struct {
	// Time is when the request had been read and its answer was decided.
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
	// Down reports whether the call arrived while the API was down, whichever rule
	// answered it.
	Down bool
	// Accepted reports whether the call was a message that was accepted.
	Accepted bool
}

// A Message is a message that the API has accepted.
type Message struct {
	// Time is when it was accepted.
	Time time.Time
	// ID is its id in the answer, beginning with "wamid.".
	ID string
	// Key distinguishes messages: it is CallbackData, or the whole body if that is
	// empty.
	Key string
	// CallbackData is the message's biz_opaque_callback_data.
	CallbackData string
	// RecipientID is the WhatsApp id of the recipient (wa_id): the digits of "to".
	RecipientID string
	// PhoneNumberID is the sender's, from the path.
	PhoneNumberID string
	// Body is the request's body. Messages with equal bodies share it: do not
	// change it.
	Body []byte
}

// Totals are the numbers of calls and messages that an API has recorded.
type Totals struct {
	// Calls is the number of calls, and WhileDown the number of those that arrived
	// while the API was down.
	Calls, WhileDown int
	// Accepted is the number of accepted messages, and Duplicates the number of
	// those whose Key had been accepted before.
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

// Totals returns the totals. It takes the same time however many calls there were.
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

// CallsPerSecond returns the number of calls in each second from since to the last
// call. Calls before since are left out. The zero Time means the time of the first
// call.
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

// Accepted returns every accepted message, in the order of Time. A message that was
// accepted twice is there twice.
func (a *API) Accepted() []Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.record.messages)
}

// AcceptedKeys returns the Key of each message of [API.Accepted], in the same order.
func (a *API) AcceptedKeys() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := make([]string, len(a.record.messages))
	for i, m := range a.record.messages {
		keys[i] = m.Key
	}
	return keys
}

// Duplicates returns the accepted messages whose Key had been accepted before. It is
// empty if no message was accepted twice.
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

// Lost returns the keys of which no message was accepted, in the order given. It is
// empty if every message arrived.
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
