package page

import (
	"log/slog"
	"net/http"
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
