package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// maxCount bounds the count of messages that no index counts.
const maxCount = 10_000

// subject is what a decision is about: one message, the messages of a filter, one number, or
// all numbers.
type subject struct {
	decision decision
	id       string // of a message
	filter   filter
}

// subjectOf reads what a decision is about from a form or a query.
func subjectOf(values url.Values) (subject, error) {
	d, ok := decisions[values.Get("verb")]
	if !ok {
		return subject{}, wrong{http.StatusBadRequest, "There is no such decision", fmt.Sprintf("It is %q: want resend, drop, park, delete, pause or resume.", values.Get("verb"))}
	}
	f, err := filterOf(values)
	if err != nil {
		return subject{}, err
	}
	f.After = "" // the decision is about the whole list, not a page of it
	s := subject{d, values.Get("id"), f}
	if d.states == nil || s.id != "" {
		return s, nil
	}
	if len(f.States) == 0 {
		s.filter.Filter.States = d.states
		return s, nil
	}
	s.filter.Filter.States = slices.DeleteFunc(slices.Clone(f.States), func(state outbox.State) bool { return !d.takes(state) })
	if len(s.filter.Filter.States) == 0 {
		return s, wrong{http.StatusBadRequest, "This filter is not valid", fmt.Sprintf("You can %s only messages that are %s.", d.Verb, orOf(d.states))}
	}
	return s, nil
}

// orOf returns states with an "or" before the last.
func orOf(states []outbox.State) string {
	var text strings.Builder
	for i, state := range states {
		switch {
		case i > 0 && i == len(states)-1:
			text.WriteString(" or ")
		case i > 0:
			text.WriteString(", ")
		}
		text.WriteString(string(state))
	}
	return text.String()
}

type confirmPage struct {
	frame
	Decision decision
	Filter   filter
	ID       string
	N        int
	// Most reports whether N is a lower bound.
	Most bool
	// Before is how many there were when the user was first asked, 0 if this is the first time.
	Before int
	At     int64 // when they were counted, in microseconds since 1970, by the database's clock
	// OfAll reports whether the decision is about all numbers. N is then how many messages are
	// queued.
	OfAll bool
}

// Back returns the link to where the user came from.
func (c confirmPage) Back() string {
	switch {
	case c.OfAll:
		return "./"
	case c.ID != "":
		return "message?" + url.Values{"id": {c.ID}}.Encode()
	}
	return "messages?" + c.Filter.Query()
}

// Count returns how many messages there are in words.
func (c confirmPage) Count() string {
	switch {
	case c.Most:
		return words.Count(c.N) + " messages or more"
	case c.N == 1:
		return "1 message"
	}
	return words.Count(c.N) + " messages"
}

// confirm asks whether to carry out a decision.
func (p *pages) confirm(w http.ResponseWriter, r *http.Request) error {
	s, err := subjectOf(r.URL.Query())
	if err != nil {
		return err
	}
	return p.ask(w, r, s, 0)
}

func (p *pages) ask(w http.ResponseWriter, r *http.Request, s subject, before int) error {
	now := p.outbox.Now()
	page := confirmPage{frame: frame{Title: s.decision.Name, Now: now}, Decision: s.decision, Filter: s.filter, ID: s.id, Before: before, At: p.outbox.Now().UnixMicro()}
	switch {
	case s.decision.states == nil:
		var err error
		page.OfAll = true
		if page.N, _, err = p.countOf(r.Context(), outbox.Filter{States: []outbox.State{outbox.StateQueued}}); err != nil {
			return err
		}
	case s.id != "":
		if _, err := p.outbox.Status(r.Context(), s.id); err != nil {
			return err
		}
		page.N = 1
	default:
		var err error
		if page.N, page.Most, err = p.countOf(r.Context(), s.filter.Filter); err != nil {
			return err
		}
	}
	return p.show(w, http.StatusOK, "confirm", page)
}

// countOf counts the messages that match a filter with states. It counts those of a code or an
// age only up to maxCount.
func (p *pages) countOf(ctx context.Context, f outbox.Filter) (n int, most bool, err error) {
	if f.Code != 0 || f.OlderThan != 0 || !f.EnqueuedBefore.IsZero() {
		f.Limit = maxCount
	}
	n, err = p.outbox.Count(ctx, f)
	return n, f.Limit > 0 && n == f.Limit, err
}

// decide carries out a decision.
func (p *pages) decide(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return wrong{http.StatusBadRequest, "This form cannot be read", "Nothing was changed."}
	}
	s, err := subjectOf(r.PostForm)
	if err != nil {
		return err
	}
	// A decision is completed even if the browser closes the connection meanwhile.
	ctx := context.WithoutCancel(r.Context())
	switch {
	case s.decision.states == nil:
		return p.decideNumber(ctx, w, r, s)
	case s.id != "":
		return p.decideOne(ctx, w, r, s)
	}
	return p.decideAll(ctx, w, r, s)
}

// decideNumber pauses or resumes a number, or all numbers if the form says so.
func (p *pages) decideNumber(ctx context.Context, w http.ResponseWriter, r *http.Request, s subject) error {
	number, n := s.filter.PhoneNumberID, 1
	if number == "" {
		if n = 0; r.PostForm.Get("all") != "yes" {
			return wrong{http.StatusBadRequest, "No number is named", "Nothing was changed."}
		}
	}
	err := s.decision.one(p.outbox, ctx, number)
	p.log(r, s, slog.String("graphretry.outbox.phone_number_id", number), err)
	if err != nil {
		return err
	}
	return done(w, "./", nil, s.decision, n)
}

func (p *pages) decideOne(ctx context.Context, w http.ResponseWriter, r *http.Request, s subject) error {
	err := s.decision.one(p.outbox, ctx, s.id)
	p.log(r, s, slog.String("graphretry.outbox.message_id", s.id), err)
	if err != nil {
		return refused(err)
	}
	if s.decision.Verb == "delete" {
		return done(w, "messages", nil, s.decision, 1)
	}
	return done(w, "message", url.Values{"id": {s.id}}, s.decision, 1)
}

// decideAll decides about the messages that the user has agreed to. Messages that were enqueued
// after the count are left alone. If more match now than did before, the user is asked again.
func (p *pages) decideAll(ctx context.Context, w http.ResponseWriter, r *http.Request, s subject) error {
	agreed, err := strconv.Atoi(r.PostForm.Get("count"))
	at, err2 := strconv.ParseInt(r.PostForm.Get("at"), 10, 64)
	if err != nil || err2 != nil || agreed < 0 {
		return wrong{http.StatusBadRequest, "The form has no count", "Nothing was changed. Use the button that says how many messages there are."}
	}
	f := s.filter.Filter
	// Not an age: messages that are enqueued while the pages of a long list are read would
	// become old enough.
	f.EnqueuedBefore, f.OlderThan = time.UnixMicro(at).Add(-f.OlderThan), 0
	counting, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	n, _, err := p.countOf(counting, f)
	if err != nil {
		return err
	}
	if n > agreed {
		return p.ask(w, r, s, agreed)
	}
	if s.decision.listed != nil {
		n, err = p.decideUnchanged(ctx, s.decision, f, time.UnixMicro(at))
	} else {
		n, err = s.decision.all(p.outbox, ctx, f)
	}
	p.log(r, s, slog.Int("graphretry.outbox.messages", n), err)
	if err != nil {
		return err
	}
	return done(w, "messages", s.filter.values(), s.decision, n)
}

// decidedAtOnce is how many messages are listed for a decision at once.
const decidedAtOnce = 4000

// decideUnchanged decides about the messages that match a filter and have not changed since the
// user was asked: one that has changed may have been settled by a webhook or by somebody else.
func (p *pages) decideUnchanged(ctx context.Context, d decision, f outbox.Filter, asked time.Time) (total int, err error) {
	f.Limit = decidedAtOnce
	for {
		found, err := p.outbox.List(ctx, f)
		if err != nil || len(found) == 0 {
			return total, err
		}
		f.After = found[len(found)-1].ID
		n, err := d.listed(p.outbox, ctx, slices.DeleteFunc(found, func(m outbox.Status) bool { return !m.Changed.Before(asked) }))
		total += n
		if err != nil {
			return total, err
		}
	}
}

// refused returns the error of a decision that the message's state does not allow.
func refused(err error) error {
	if errors.Is(err, outbox.ErrRefused) {
		return wrong{http.StatusConflict, "This cannot be done", sentence(err)}
	}
	return err
}

// done redirects the browser to a page that says what was done, so that a reload does not
// repeat it.
func done(w http.ResponseWriter, to string, query url.Values, d decision, n int) error {
	if query == nil {
		query = url.Values{}
	}
	query.Set("did", d.Verb)
	query.Set("n", strconv.Itoa(n))
	// http.Redirect would make the location absolute, without the path where the pages are
	// mounted.
	w.Header().Set("Location", to+"?"+query.Encode())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// log logs a decision.
func (p *pages) log(r *http.Request, s subject, about slog.Attr, err error) {
	attributes := []slog.Attr{p.who(r), slog.String("graphretry.outbox.decision", s.decision.Verb), about}
	if s.decision.states != nil && s.id == "" {
		attributes = append(attributes, slog.String("graphretry.outbox.filter", s.filter.String()))
	}
	level, text := slog.LevelInfo, "outbox: a person has decided"
	if err != nil {
		level, text = slog.LevelWarn, "outbox: what a person has decided was not done, or not all"
		attributes = append(attributes, slog.String("error.message", err.Error()))
	}
	p.logger.LogAttrs(r.Context(), level, text, attributes...)
}
