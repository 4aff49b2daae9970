// Package page is a page for the operators of an outbox: what is in it and why, and what a
// person decides for a message, for many of them, or for a phone number.
//
//	mux.Handle("/outbox/", http.StripPrefix("/outbox", login(page.Handler(o, page.WithUser(user)))))
//
// It has no login of its own. Mount it behind yours, at a path that ends with a slash: its
// links are relative, so any path will do. "outbox serve" of the command starts it on
// loopback, for who has no program to mount it in.
//
// What changes something is a POST, which [http.CrossOriginProtection] guards, and is
// logged. The pages work without JavaScript; with it they refresh themselves. They load
// nothing from anywhere else, and their Content-Security-Policy lets them do nothing else.
package page

import (
	"log/slog"
	"net/http"

	"github.com/graphretry/graphretry/outbox"
)

// Option changes one setting of [Handler]. Where two options set the same thing, the later
// one holds.
type Option struct {
	apply func(*settings)
}

type settings struct {
	user     func(*http.Request) string
	logger   *slog.Logger
	payloads bool
}

// WithUser sets who the user of a request is, such as the name that your login has found. It
// stands in the log beside what the user changes, as user.name. By default it is left out.
func WithUser(user func(*http.Request) string) Option {
	return Option{func(s *settings) { s.user = user }}
}

// WithLogger sets where what is changed is logged, and what fails. The default is
// [slog.Default], so that what was changed is on record; nil means that, too. The names of the
// attributes are those of [graphretry.WithLogger] and [outbox.WithLogger].
//
// [graphretry.WithLogger]: https://pkg.go.dev/github.com/graphretry/graphretry#WithLogger
func WithLogger(logger *slog.Logger) Option {
	return Option{func(s *settings) { s.logger = logger }}
}

// WithPayload has the page of a message show its payload, which has the recipient and the
// text. By default it does not.
func WithPayload() Option {
	return Option{func(s *settings) { s.payloads = true }}
}

// Handler returns the pages of an outbox. It needs no [outbox.Outbox.Run] in its process.
func Handler(o *outbox.Outbox, opts ...Option) http.Handler {
	var s settings
	for _, opt := range opts {
		if opt.apply != nil { // the zero Option sets nothing
			opt.apply(&s)
		}
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.user == nil {
		s.user = func(*http.Request) string { return "" }
	}
	return newPages(o, s)
}
